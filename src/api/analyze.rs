//! `AnalyzeModel`: what can be cut from a model, measured by a process of its own.

use tonic::Status;

use super::auth::Caller;
use super::convert::analysis::analysis as to_pb;
use super::convert::{Checks, Path, recipe_from_pb};
use super::names::Collection;
use super::status::{self, RequestError};
use super::validation::placed;
use super::{Context, recipe as files, v1};
use crate::jobs::reader::{Part, Question, StoredModel};
use crate::recipe::analyze::{SAMPLES, bad_ratios};
use crate::store::{DatasetDetail, Detail, Entry, EntryState, ModelDetail, StoreError};

/// Ratios in one question.
const MAX_RATIOS: usize = 16;
/// Samples to measure on.
const MAX_SAMPLES: u32 = 10_000;

impl Context {
    pub(super) async fn analyze(
        &self,
        caller: &Caller,
        request: v1::AnalyzeModelRequest,
    ) -> Result<v1::AnalyzeModelResponse, Status> {
        let name = caller.parse(Collection::Models, &request.name, "name")?;
        let dataset = match request.dataset.as_str() {
            "" => None,
            dataset => Some(caller.parse(Collection::Datasets, dataset, "dataset")?),
        };
        let question = question(&request)?;
        let model: Entry<ModelDetail> = self.ready(&name.tenant, &name.id).await?;
        let mut data = None;
        if let Some(name) = dataset {
            data = Some(self.ready::<DatasetDetail>(&name.tenant, &name.id).await?);
        }
        let stored = StoredModel { files: model.files, architecture: model.detail.architecture };
        let data = data.as_ref().map(|data| (data.files.as_slice(), data.detail.data_source.clone()));
        let found = self.reader.analyze(&stored, data, question).await;
        let found = found.map_err(|refusal| status::refused(&placed(refusal, in_request).failure()))?;
        Ok(to_pb(found))
    }

    /// Finds a model or a data set that may be used.
    pub(super) async fn ready<D: Detail>(&self, tenant: &str, id: &str) -> Result<Entry<D>, StoreError> {
        let entry = self.store.catalogue.get::<D>(tenant, id).await?;
        match entry.state {
            EntryState::Ready => Ok(entry),
            state => Err(StoreError::NotReady { what: D::WHAT, id: id.into(), state: state.name() }),
        }
    }
}

fn question(request: &v1::AnalyzeModelRequest) -> Result<Question, RequestError> {
    let mut checks = Checks::default();
    if request.ratios.len() > MAX_RATIOS {
        let text = format!("has {} numbers, at most {MAX_RATIOS} are allowed", request.ratios.len());
        checks.refuse(&Path::root("ratios"), text);
    }
    bad_ratios(&request.ratios).into_iter().for_each(|bad| checks.add(Some(bad)));
    if request.samples > MAX_SAMPLES {
        let text = format!("{} is not allowed: a whole number up to {MAX_SAMPLES} is", request.samples);
        checks.refuse(&Path::root("samples"), text);
    }
    let recipe = request.recipe.clone().map(|pb| recipe_from_pb(pb, &Path::root("recipe"))).transpose();
    let recipe = match recipe {
        Ok(recipe) => recipe,
        Err(mut violations) => {
            violations.extend(checks.finish(()).err().unwrap_or_default());
            return Err(RequestError::Invalid { violations });
        }
    };
    let samples = if request.samples == 0 { SAMPLES } else { request.samples as usize };
    let recipe = recipe.as_ref().map(files::to_json);
    let question = Question { recipe, ratios: request.ratios.clone(), samples };
    checks.finish(question).map_err(|violations| RequestError::Invalid { violations })
}

/// Where a bad field stands in the request.
fn in_request(part: &Part, field: &str) -> String {
    match part {
        Part::Model | Part::Extra(_) => "name".into(),
        Part::Data => "dataset".into(),
        Part::Recipe if field == "data" || field == "model" => "dataset".into(),
        Part::Recipe if field.is_empty() => "recipe".into(),
        Part::Recipe => field.into(),
    }
}
