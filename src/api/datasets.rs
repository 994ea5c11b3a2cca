//! `niwaki.v1.DatasetService`: labelled samples.

use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::convert::catalogue::dataset as to_pb;
use super::convert::{Checks, Path, source_from_pb};
use super::files::named;
use super::filter::ENTRIES;
use super::limits::{MAX_DISPLAY_NAME, MAX_FILES};
use super::names::Collection;
use super::paging::{Paging, check_request_id};
use super::status::{self, RequestError};
use super::v1::dataset_service_server::DatasetService;
use super::validation::{Readable, placed, unnamed};
use super::{Context, v1};
use crate::data::DataSource;
use crate::jobs::reader::{Reader, Refusal};
use crate::store::{self, Begun, DatasetDetail, Entry, NewEntry, now_ms};

#[derive(Debug, Clone)]
pub(super) struct Datasets(pub Context);

#[tonic::async_trait]
impl DatasetService for Datasets {
    async fn create_dataset(
        &self,
        request: Request<v1::CreateDatasetRequest>,
    ) -> Result<Response<v1::Dataset>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::CreateDatasetRequest { parent, dataset, request_id, validate_only } = request;
        let tenant = caller.parent(&parent)?;
        let mut dataset = dataset.unwrap_or_default();
        let source = check(&mut dataset, &request_id)?;
        let request = store::Request::new(request_id, &(&dataset.display_name, named(&dataset.files), &source));
        if !validate_only && let Some(before) = self.0.store.catalogue.made_by(&tenant, &request).await? {
            return Ok(Response::new(to_pb(self.0.checked(before).await?)));
        }
        let files = self.0.references(&caller, &dataset.files, "dataset.files").await?;
        let display_name = dataset.display_name;
        let detail = DatasetDetail { data_source: source, ..DatasetDetail::default() };
        let new = NewEntry { tenant, display_name, files, detail };
        if validate_only {
            let entry = unnamed(new);
            let detail =
                DatasetDetail::read(&self.0.reader, &entry).await.map_err(|r| status::refused(&r.failure()))?;
            let dataset = to_pb(Entry { detail, ..entry });
            let (name, etag) = (String::new(), String::new());
            return Ok(Response::new(v1::Dataset { name, create_time: None, etag, ..dataset }));
        }
        let (Begun::New(entry) | Begun::Before(entry)) = self.0.store.catalogue.begin(&new, &request, now_ms()).await?;
        Ok(Response::new(to_pb(self.0.checked(entry).await?)))
    }

    async fn get_dataset(&self, request: Request<v1::GetDatasetRequest>) -> Result<Response<v1::Dataset>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Datasets, &request.name, "name")?;
        Ok(Response::new(to_pb(self.0.store.catalogue.get(&name.tenant, &name.id).await?)))
    }

    async fn list_datasets(
        &self,
        request: Request<v1::ListDatasetsRequest>,
    ) -> Result<Response<v1::ListDatasetsResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::ListDatasetsRequest { parent, page_size, page_token, filter } = request;
        let tenant = caller.parent(&parent)?;
        let paging = Paging::read(Collection::Datasets, &parent, page_size, &page_token, &filter, ENTRIES)?;
        let mut datasets = self.0.store.catalogue.list::<DatasetDetail>(&tenant, &paging.page).await?;
        let next_page_token = paging.cut(&mut datasets, |dataset| &dataset.id);
        let datasets = datasets.into_iter().map(to_pb).collect();
        Ok(Response::new(v1::ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn delete_dataset(
        &self,
        request: Request<v1::DeleteDatasetRequest>,
    ) -> Result<Response<v1::DeleteDatasetResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Datasets, &request.name, "name")?;
        self.0.store.catalogue.delete::<DatasetDetail>(&name.tenant, &name.id, &request.etag).await?;
        Ok(Response::new(v1::DeleteDatasetResponse {}))
    }
}

/// Checks a new data set; returns what its files are, if it says so.
fn check(dataset: &mut v1::Dataset, request_id: &str) -> Result<Option<DataSource>, RequestError> {
    let mut checks = Checks::default();
    checks.text(&Path::root("dataset.display_name"), dataset.display_name.clone(), MAX_DISPLAY_NAME);
    if dataset.files.is_empty() || dataset.files.len() > MAX_FILES {
        let given = dataset.files.len();
        checks.refuse(&Path::root("dataset.files"), format!("has {given} files: a data set has 1 to {MAX_FILES}"));
    }
    let at = Path::root("dataset.source");
    let source = dataset.source.take().and_then(|source| source_from_pb(source, &at, &mut checks));
    checks.add(check_request_id(request_id));
    checks.finish(source).map_err(|violations| RequestError::Invalid { violations })
}

impl Readable for DatasetDetail {
    async fn read(reader: &Reader, entry: &Entry<Self>) -> Result<Self, Refusal> {
        let names: Vec<String> = entry.files.iter().map(|file| file.file_name.clone()).collect();
        let read = reader.dataset(&entry.files, entry.detail.data_source.clone()).await;
        read.map_err(|refusal| placed(refusal, |_, field| in_request(field, &names)))
    }
}

/// Where a bad field of a data set stands in the request: the reader speaks of files by their names.
fn in_request(field: &str, names: &[String]) -> String {
    if let Some(source) = field.strip_prefix("data.source") {
        return format!("dataset.source{source}");
    }
    match names.iter().position(|name| name == field) {
        Some(i) => format!("dataset.files[{i}]"),
        None => "dataset.files".into(),
    }
}
