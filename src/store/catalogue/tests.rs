use super::*;
use crate::error::{Classify, Kind};
use crate::store::Store;

fn new(name: &str) -> NewEntry<ModelDetail> {
    let detail = ModelDetail {
        architecture: Some(Architecture::Preset("lenet5".into())),
        params: 3,
        nonzero_params: 2,
        macs: 3,
        nodes: 1,
        input_shape: vec![1, 28, 28],
        output_shape: vec![10],
    };
    let file = FileRef { upload: "u".into(), file_name: "m".into(), size_bytes: 1, digest: "sha256:0".into() };
    NewEntry { tenant: "default".into(), display_name: name.into(), files: vec![file], detail }
}

async fn catalogue() -> (tempfile::TempDir, Catalogue) {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Store::open(folder.path()).await.unwrap().catalogue;
    for tenant in ["default", "other"] {
        let upload = sqlx::query(
            "INSERT INTO uploads (tenant, id, request_id, request_digest, file_name, size_bytes, digest,
                 committed_size, state, revision, create_ms)
             VALUES ($1, 'u', '', '', 'm', 1, 'sha256:0', 1, 'COMPLETE', 1, 0)",
        );
        upload.bind(tenant).execute(catalogue.database.pool()).await.unwrap();
    }
    (folder, catalogue)
}

#[tokio::test]
async fn an_entry_is_checked_before_it_is_ready_and_ends_once() {
    let (_folder, catalogue) = catalogue().await;
    let call = Request::new("key", &"content");
    let Begun::New(first) = catalogue.begin(&new("a"), &call, 7).await.unwrap() else { panic!("nothing was there") };
    assert_eq!((first.state, first.revision), (EntryState::Validating, 1));
    assert_eq!(catalogue.begin(&new("a"), &call, 8).await.unwrap(), Begun::Before(first.clone()));
    assert_eq!(catalogue.validating::<ModelDetail>().await.unwrap(), [(first.tenant.clone(), first.id.clone())]);
    let found = ModelDetail { params: 99, ..new("a").detail };
    let ready = catalogue.ready("default", &first.id, &found).await.unwrap();
    assert_eq!((ready.state, ready.revision, ready.detail.params), (EntryState::Ready, 2, 99));
    assert!(catalogue.validating::<ModelDetail>().await.unwrap().is_empty());
    let failure = Failure::new(crate::error::Kind::InvalidArgument, "TRUNCATED", "it ends early");
    assert_eq!(catalogue.reject::<ModelDetail>("default", &first.id, &failure).await.unwrap(), ready);

    let Begun::New(second) = catalogue.begin(&new("b"), &Request::new("", &0), 9).await.unwrap() else { panic!() };
    let rejected = catalogue.reject::<ModelDetail>("default", &second.id, &failure).await.unwrap();
    assert_eq!((rejected.state, &rejected.failure), (EntryState::Rejected, &Some(failure)));
    assert_eq!(catalogue.ready("default", &second.id, &found).await.unwrap(), rejected);
}

#[tokio::test]
async fn an_entry_of_an_upload_that_is_gone_is_refused_and_leaves_nothing() {
    let (_folder, catalogue) = catalogue().await;
    let mut gone = new("a");
    gone.files.push(FileRef { upload: "v".into(), ..gone.files[0].clone() });
    let error = catalogue.begin(&gone, &Request::new("", &0), 0).await.unwrap_err();
    assert_eq!(error.to_string(), "upload 'v' does not exist");
    assert!(catalogue.validating::<ModelDetail>().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_deleted_is_gone_for_everybody_and_only_the_state_that_the_caller_saw_is_deleted() {
    let (_folder, catalogue) = catalogue().await;
    let call = Request::new("key", &"content");
    let made = catalogue.create(&new("a"), &call, 0).await.unwrap();
    let error = catalogue.delete::<ModelDetail>("default", &made.id, "\"1\"").await.unwrap_err();
    assert!(matches!(error, StoreError::EtagMismatch { what: "model", .. }));
    catalogue.delete::<ModelDetail>("default", &made.id, &crate::store::etag(made.revision)).await.unwrap();
    let again = catalogue.delete::<ModelDetail>("default", &made.id, "").await.unwrap_err();
    let never = catalogue.delete::<ModelDetail>("default", "0", "").await.unwrap_err();
    assert_eq!(again.to_string().replace(&made.id, "0"), never.to_string());
    assert!(matches!(catalogue.get::<ModelDetail>("default", &made.id).await, Err(StoreError::NotFound { .. })));
    let page = Page { size: 10, ..Page::default() };
    assert!(catalogue.list::<ModelDetail>("default", &page).await.unwrap().is_empty());
    assert_ne!(catalogue.create(&new("a"), &call, 1).await.unwrap().id, made.id);
}

#[tokio::test]
async fn a_filter_is_data_and_never_sql() {
    use crate::store::{Condition, Filter, Operator, Value};
    let (_folder, catalogue) = catalogue().await;
    for (time, name) in [(1, "a"), (2, "'); DROP TABLE models; --"), (3, "a")] {
        catalogue.create(&new(name), &Request::new("", &0), time).await.unwrap();
    }
    let named = |name: &str, operator| Condition { column: "display_name", operator, value: Value::Text(name.into()) };
    let times = async |conditions| {
        let page = Page { size: 10, before: None, filter: Filter(conditions) };
        let entries = catalogue.list::<ModelDetail>("default", &page).await.unwrap();
        entries.iter().map(|entry| entry.create_ms).collect::<Vec<_>>()
    };
    assert_eq!(times(vec![named("'); DROP TABLE models; --", Operator::Equal)]).await, [2]);
    assert_eq!(times(vec![named("a", Operator::NotEqual)]).await, [2]);
    let late = Condition { column: "create_ms", operator: Operator::AtLeast, value: Value::Number(2) };
    assert_eq!(times(vec![named("a", Operator::Equal), late]).await, [3]);
}

#[tokio::test]
async fn a_repeated_call_gives_the_first_object_and_another_call_with_its_key_is_refused() {
    let (_folder, catalogue) = catalogue().await;
    let call = Request::new("key", &"content");
    let first = catalogue.create(&new("a"), &call, 7).await.unwrap();
    assert_eq!(first.detail, new("a").detail);
    assert_eq!(catalogue.create(&new("a"), &call, 8).await.unwrap(), first);
    let other = Request::new("key", &"other content");
    let error = catalogue.create(&new("b"), &other, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::RequestIdReused { what: "model", .. }));
    // Without a key, every call makes a new one; another tenant's keys are its own.
    let none = Request::new("", &"content");
    assert_ne!(
        catalogue.create(&new("a"), &none, 9).await.unwrap(),
        catalogue.create(&new("a"), &none, 9).await.unwrap()
    );
    let theirs = NewEntry { tenant: "other".into(), ..new("b") };
    assert_ne!(catalogue.create(&theirs, &other, 9).await.unwrap().id, first.id);
}

#[tokio::test]
async fn pages_are_newest_first_and_join_without_gap_or_overlap() {
    let (_folder, catalogue) = catalogue().await;
    let mut made = Vec::new();
    for i in 0..5 {
        made.push(catalogue.create(&new("m"), &Request::new("", &i), i).await.unwrap());
    }
    made.reverse();
    made.iter_mut().for_each(|entry| entry.detail.architecture = None);
    let mut seen = Vec::new();
    let mut page = Page { size: 2, ..Page::default() };
    loop {
        let entries = catalogue.list::<ModelDetail>("default", &page).await.unwrap();
        let Some(last) = entries.last() else { break };
        page.before = Some(last.id.clone());
        seen.extend(entries);
    }
    assert_eq!(seen, made);
    assert!(catalogue.list::<ModelDetail>("other", &page).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tenant_has_so_many_models_and_repeats_its_calls_all_the_same() {
    let (_folder, catalogue) = catalogue().await;
    let catalogue = catalogue.limited(settings::Uploads { max_models: 2, ..Default::default() });
    let key = Request::new("key", &0);
    let first = catalogue.create(&new("a"), &key, 1).await.unwrap();
    let second = catalogue.create(&new("b"), &Request::new("", &0), 2).await.unwrap();
    let error = catalogue.create(&new("c"), &Request::new("", &0), 3).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "TOO_MANY_MODELS"));
    assert_eq!(catalogue.create(&new("a"), &key, 4).await.unwrap(), first);
    // Neither another tenant's nor a deleted one counts.
    catalogue.create(&NewEntry { tenant: "other".into(), ..new("a") }, &key, 5).await.unwrap();
    catalogue.delete::<ModelDetail>("default", &second.id, "").await.unwrap();
    catalogue.create(&new("c"), &Request::new("", &0), 6).await.unwrap();
}

#[tokio::test]
async fn a_list_of_data_sets_does_not_read_their_files() {
    let (_folder, catalogue) = catalogue().await;
    let NewEntry { tenant, display_name, files, .. } = new("digits");
    let digits = NewEntry { tenant, display_name, files, detail: DatasetDetail::default() };
    let made = catalogue.create(&digits, &Request::new("", &0), 0).await.unwrap();
    assert_eq!(made.files.len(), 1);
    // Files that are no JSON would be found out if they were read.
    sqlx::query("UPDATE datasets SET files = '?'").execute(catalogue.database.pool()).await.unwrap();
    assert!(catalogue.get::<DatasetDetail>("default", &made.id).await.is_err());
    let page = Page { size: 2, ..Page::default() };
    let listed = catalogue.list::<DatasetDetail>("default", &page).await.unwrap();
    assert_eq!(listed, [Entry { files: Vec::new(), ..made }]);
}
