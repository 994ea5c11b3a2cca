//! `niwaki.v1.ModelService`: networks that jobs can start from.

use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::convert::catalogue::model as to_pb;
use super::convert::{Checks, Path};
use super::files::named;
use super::filter::ENTRIES;
use super::limits::{MAX_DISPLAY_NAME, MAX_GRAPH_JSON};
use super::names::Collection;
use super::paging::{Paging, check_request_id};
use super::status::{self, RequestError};
use super::v1::model_service_server::ModelService;
use super::validation::{Readable, placed, unnamed};
use super::{Context, v1};
use crate::format::Architecture;
use crate::format::MAX_FILES;
use crate::jobs::reader::{Part, Reader, Refusal, StoredModel};
use crate::store::{self, Begun, Entry, ModelDetail, NewEntry, now_ms};

#[derive(Debug, Clone)]
pub(super) struct Models(pub Context);

#[tonic::async_trait]
impl ModelService for Models {
    async fn create_model(&self, request: Request<v1::CreateModelRequest>) -> Result<Response<v1::Model>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::CreateModelRequest { parent, model, request_id, validate_only } = request;
        let tenant = caller.parent(&parent)?;
        let model = model.unwrap_or_default();
        let architecture = check(&model, &request_id)?;
        let request = store::Request::new(request_id, &(&model.display_name, named(&model.files), &architecture));
        if !validate_only && let Some(before) = self.0.store.catalogue.made_by(&tenant, &request).await? {
            return Ok(Response::new(to_pb(self.0.checked(before).await?)));
        }
        let files = self.0.references(&caller, &model.files, "model.files").await?;
        let display_name = model.display_name;
        let new =
            NewEntry { tenant, display_name, files, detail: ModelDetail { architecture, ..ModelDetail::default() } };
        if validate_only {
            let entry = unnamed(new);
            let detail = ModelDetail::read(&self.0.reader, &entry).await.map_err(|r| status::refused(&r.failure()))?;
            let model = to_pb(Entry { detail, ..entry });
            return Ok(Response::new(v1::Model {
                name: String::new(),
                create_time: None,
                etag: String::new(),
                ..model
            }));
        }
        let (Begun::New(entry) | Begun::Before(entry)) = self.0.store.catalogue.begin(&new, &request, now_ms()).await?;
        Ok(Response::new(to_pb(self.0.checked(entry).await?)))
    }

    async fn get_model(&self, request: Request<v1::GetModelRequest>) -> Result<Response<v1::Model>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Models, &request.name, "name")?;
        Ok(Response::new(to_pb(self.0.store.catalogue.get(&name.tenant, &name.id).await?)))
    }

    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::ListModelsRequest { parent, page_size, page_token, filter } = request;
        let tenant = caller.parent(&parent)?;
        let paging = Paging::read(Collection::Models, &parent, page_size, &page_token, &filter, ENTRIES)?;
        let mut models = self.0.store.catalogue.list::<ModelDetail>(&tenant, &paging.page).await?;
        let next_page_token = paging.cut(&mut models, |model| &model.id);
        let models = models.into_iter().map(to_pb).collect();
        Ok(Response::new(v1::ListModelsResponse { models, next_page_token }))
    }

    async fn delete_model(
        &self,
        request: Request<v1::DeleteModelRequest>,
    ) -> Result<Response<v1::DeleteModelResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Models, &request.name, "name")?;
        self.0.store.catalogue.delete::<ModelDetail>(&name.tenant, &name.id, &request.etag).await?;
        Ok(Response::new(v1::DeleteModelResponse {}))
    }

    async fn analyze_model(
        &self,
        request: Request<v1::AnalyzeModelRequest>,
    ) -> Result<Response<v1::AnalyzeModelResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        Ok(Response::new(self.0.analyze(&caller, request).await?))
    }
}

fn check(model: &v1::Model, request_id: &str) -> Result<Option<Architecture>, RequestError> {
    use v1::architecture::Kind;
    let mut checks = Checks::default();
    checks.text(&Path::root("model.display_name"), model.display_name.clone(), MAX_DISPLAY_NAME);
    if !(1..=MAX_FILES).contains(&model.files.len()) {
        let problem = format!(
            "has {} files: a model is one .safetensors or ONNX file, the latter with those that its tensors lie in; {MAX_FILES} at most",
            model.files.len()
        );
        checks.refuse(&Path::root("model.files"), problem);
    }
    let architecture = model.architecture.as_ref().and_then(|architecture| match &architecture.kind {
        Some(Kind::Preset(name)) => Some(Architecture::Preset(name.clone())),
        Some(Kind::GraphJson(json)) if json.len() > MAX_GRAPH_JSON => {
            let problem = format!("has {} bytes, a graph has at most {MAX_GRAPH_JSON}", json.len());
            checks.refuse(&Path::root("model.architecture.graph_json"), problem);
            None
        }
        Some(Kind::GraphJson(json)) => Some(Architecture::GraphJson(json.clone())),
        None => {
            checks.refuse(&Path::root("model.architecture"), "is empty: one of preset, graph_json is needed");
            None
        }
    });
    checks.add(check_request_id(request_id));
    checks.finish(architecture).map_err(|violations| RequestError::Invalid { violations })
}

impl Readable for ModelDetail {
    async fn read(reader: &Reader, entry: &Entry<Self>) -> Result<Self, Refusal> {
        let stored = StoredModel { files: entry.files.clone(), architecture: entry.detail.architecture.clone() };
        reader.model(&stored).await.map_err(|refusal| placed(refusal, in_request))
    }
}

/// Where a bad field of a model's file stands in the request: the reader speaks of tensors and of the architecture.
fn in_request(_: &Part, field: &str) -> String {
    if field.starts_with("architecture") { format!("model.{field}") } else { "model.files[0]".into() }
}
