//! Models and data sets.

use super::*;

#[tokio::test]
async fn a_model_and_a_data_set_are_what_their_files_hold() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let upload = server.put("small.safetensors", &model_file()).await;
    let model = server.create_model(&upload, "").await.unwrap();
    assert_eq!(model.state(), v1::model::State::Ready);
    assert_eq!((model.files[0].upload.as_str(), model.files[0].file_name.as_str()), (&*upload, "small.safetensors"));
    assert_eq!(model.files[0].digest, sha256(&model_file()));
    let summary = model.summary.clone().unwrap();
    assert_eq!((summary.params, summary.macs, summary.nodes), (34, 32, 2));
    assert_eq!((summary.input_shape, summary.output_shape), (vec![1, 4, 4], vec![2]));
    let request = v1::GetModelRequest { name: model.name.clone() };
    assert_eq!(server.models().get_model(request).await.unwrap().into_inner(), model);

    let upload = server.put("stripes.safetensors", &dataset_file(20)).await;
    let dataset = server.create_dataset(&[upload]).await.unwrap();
    let summary = dataset.summary.clone().unwrap();
    assert_eq!((summary.source.as_str(), summary.train_samples, summary.test_samples), ("safetensors", 20, 0));
    assert_eq!((summary.classes, summary.sample_shape), (2, vec![1, 4, 4]));
    let request = v1::GetDatasetRequest { name: dataset.name.clone() };
    assert_eq!(server.datasets().get_dataset(request).await.unwrap().into_inner(), dataset);
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_no_model_or_no_data_set_are_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let garbage = server.put("garbage", &[255; 100]).await;
    let error = server.create_model(&garbage, "").await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["model.files[0]".to_string()]));
    let error = server.create_dataset(std::slice::from_ref(&garbage)).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["dataset.files".to_string()]));
    let error = server.create_dataset(&[garbage.clone(), garbage]).await.unwrap_err();
    assert_eq!(fields(&error), ["dataset.files[1].upload"]);
    let error = server.create_dataset(&[]).await.unwrap_err();
    assert_eq!(fields(&error), ["dataset.files"]);
    server.stop().await;
}

/// A grey PNG of 4 x 4 pixels: columns of light and dark, or rows.
fn picture(class: usize, i: usize) -> Vec<u8> {
    let light = (100 + i) as u8;
    let pixel = |x: u32, y: u32| if [x, y][class].is_multiple_of(2) { light } else { 0 };
    let image = image::GrayImage::from_fn(4, 4, |x, y| image::Luma([pixel(x, y)]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_folders_make_a_data_set_that_jobs_can_use() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let mut uploads = Vec::new();
    for i in 0..24 {
        let (class, split) = (["columns", "rows"][i % 2], if i < 16 { "train" } else { "test" });
        uploads.push(server.put(&format!("{split}/{class}/{i}.png"), &picture(i % 2, i)).await);
    }
    let dataset = server.create_dataset(&uploads).await.unwrap();
    assert_eq!(dataset.files[0].file_name, "train/columns/0.png");
    let summary = dataset.summary.clone().unwrap();
    assert_eq!((summary.source.as_str(), summary.train_samples, summary.test_samples), ("images", 16, 8));
    assert_eq!((summary.classes, summary.class_names), (2, vec!["columns".to_string(), "rows".to_string()]));
    assert_eq!(summary.sample_shape, [1, 4, 4]);

    let list = v1::ListDatasetsRequest { parent: PARENT.into(), ..Default::default() };
    let listed = server.datasets().list_datasets(list).await.unwrap().into_inner().datasets;
    assert!(listed[0].files.is_empty() && listed[0].summary.is_some());

    let (model, _) = server.inputs().await;
    let recipe = r#"{"version": 1, "data": {"split": {"validation_fraction": 0.25}, "augment": [{"shift_crop": {"pixels": 1}}]},
        "steps": [{"train": {"epochs": 2, "batch_size": 4}}]}"#;
    let job = server.create_job(&model, &dataset.name, recipe, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!(ended.state(), v1::job::State::Succeeded, "{:?}", ended.error);
    assert_eq!(ended.result.unwrap().test_samples, 8);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_data_set_says_of_its_files_holds_for_its_jobs() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let rows: String = (0..20).map(|i| format!("{}{}\n", i % 2, format!(",{}", i % 2).repeat(16))).collect();
    let upload = server.put("rows.csv", rows.as_bytes()).await;
    let error = server.create_dataset(std::slice::from_ref(&upload)).await.unwrap_err();
    assert!(error.message().contains("which column of 'rows.csv' has the label cannot be told"), "{error}");

    let create = async |source: &str| {
        let source = Some(niwaki::api::json::from_str("DataSource", source).unwrap());
        let dataset = v1::Dataset { files: vec![file(&upload)], source, ..Default::default() };
        let request = v1::CreateDatasetRequest {
            parent: PARENT.into(),
            dataset: Some(dataset),
            request_id: String::new(),
            validate_only: false,
        };
        server.datasets().create_dataset(request).await.map(tonic::Response::into_inner)
    };
    let error = create(r#"{"csv": {"train": "rows.csv", "label_index": 17}}"#).await.unwrap_err();
    assert_eq!(fields(&error), ["dataset.source.csv.label"]);
    let error = create(r#"{"csv": {"train": "rows.csv", "shape": [0]}}"#).await.unwrap_err();
    assert_eq!(fields(&error), ["dataset.source.csv.shape[0]"]);
    let dataset = create(r#"{"csv": {"train": "rows.csv", "label_index": 0, "shape": [1, 4, 4]}}"#).await.unwrap();
    assert_eq!(dataset.summary.clone().unwrap().sample_shape, [1, 4, 4]);
    let request = v1::GetDatasetRequest { name: dataset.name.clone() };
    assert_eq!(server.datasets().get_dataset(request).await.unwrap().into_inner(), dataset);

    let (model, _) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"train": {"epochs": 1, "batch_size": 4}}]}"#;
    let job = server.create_job(&model, &dataset.name, recipe, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!(ended.state(), v1::job::State::Succeeded, "{:?}", ended.error);
    server.stop().await;
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_by_their_field() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    for name in ["../x", "/etc/passwd", "a/../../x", "a//b", "a/", "a\\b", "train/.x/1.png"] {
        let error = server.announce(name, 1, &sha256(b"x"), "").await.unwrap_err();
        assert_eq!(
            (error.code(), fields(&error)),
            (Code::InvalidArgument, vec!["upload.file_name".to_string()]),
            "{name}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn uploads_that_are_missing_or_incomplete_make_no_model() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let open = server.announce("open", 5, &sha256(b"x"), "").await.unwrap().name;
    let error = server.create_model(&open, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "UPLOAD_INCOMPLETE"));
    assert_eq!(server.create_model("tenants/default/uploads/none", "").await.unwrap_err().code(), Code::NotFound);
    let error = server.create_model("none", "").await.unwrap_err();
    assert_eq!(fields(&error), ["model.files[0].upload"]);
    server.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages_newest_first() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let upload = server.put("small.safetensors", &model_file()).await;
    let mut made = Vec::new();
    for i in 0..5 {
        made.push(server.create_model(&upload, &format!("key-{i}")).await.unwrap().name);
    }
    assert_eq!(server.create_model(&upload, "key-0").await.unwrap().name, made[0]);
    made.reverse();
    let mut request =
        v1::ListModelsRequest { parent: PARENT.into(), page_size: 2, page_token: String::new(), filter: String::new() };
    let mut seen = Vec::new();
    loop {
        let page = server.models().list_models(request.clone()).await.unwrap().into_inner();
        assert!(page.models.len() <= 2);
        seen.extend(page.models.into_iter().map(|model| model.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, made);
    request.page_size = -1;
    request.page_token = "forged".into();
    let error = server.models().list_models(request.clone()).await.unwrap_err();
    assert_eq!(fields(&error), ["page_size", "page_token"]);
    request.parent = "tenants/other".into();
    assert_eq!(server.models().list_models(request).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_call_repeated_after_its_upload_was_deleted_has_the_first_answer() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let upload = server.put("small", &model_file()).await;
    let first = server.create_model(&upload, "key").await.unwrap();
    let delete = v1::DeleteUploadRequest { name: upload.clone(), etag: String::new() };
    server.uploads().delete_upload(delete).await.unwrap();
    assert_eq!(server.create_model(&upload, "key").await.unwrap(), first);
    assert_eq!(server.create_model(&upload, "other").await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_graph_beside_a_model_is_short_and_forgotten_with_a_model_that_is_rejected() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let upload = server.put("small", &model_file()).await;
    let create = async |json: String| {
        let kind = Some(v1::architecture::Kind::GraphJson(json));
        let files = vec![file(&upload)];
        let model = v1::Model { files, architecture: Some(v1::Architecture { kind }), ..Default::default() };
        let request = v1::CreateModelRequest { parent: PARENT.into(), model: Some(model), ..Default::default() };
        server.models().create_model(request).await.unwrap_err()
    };
    assert_eq!(fields(&create(" ".repeat((1 << 20) + 1)).await), ["model.architecture.graph_json"]);
    // One that is no graph is refused by whoever reads it, and kept as REJECTED.
    create(" ".repeat(1 << 20)).await;
    let list = v1::ListModelsRequest { parent: PARENT.into(), ..Default::default() };
    let listed = server.models().list_models(list).await.unwrap().into_inner().models;
    assert_eq!((listed.len(), listed[0].state(), &listed[0].architecture), (1, v1::model::State::Rejected, &None));
    let get = v1::GetModelRequest { name: listed[0].name.clone() };
    assert_eq!(server.models().get_model(get).await.unwrap().into_inner().architecture, None);
    server.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_unless_a_job_needs_it_or_it_has_changed() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"fold": {}}]}"#;
    let job = server.create_job(&model, &dataset, recipe, "").await.unwrap();
    let delete = async |name: &str, etag: &str| {
        let request = v1::DeleteModelRequest { name: name.into(), etag: etag.into() };
        server.models().delete_model(request).await.map(|_| ())
    };
    let error = delete(&model, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "IN_USE"));
    assert!(error.message().contains(job.name.rsplit('/').next().unwrap()), "{error:?}");
    let undone = v1::DeleteJobRequest { name: job.name.clone(), etag: String::new() };
    assert_eq!(server.jobs().delete_job(undone).await.unwrap_err().code(), Code::FailedPrecondition);

    let cancelled = server.jobs().cancel_job(v1::CancelJobRequest { name: job.name.clone() }).await.unwrap();
    let error = delete(&model, "\"77\"").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    delete(&model, "").await.unwrap();
    assert_eq!(delete(&model, "").await.unwrap_err().code(), Code::NotFound);
    // The job goes on naming it, and goes itself if nothing has happened to it meanwhile.
    let etag = cancelled.into_inner().etag;
    let kept = server.jobs().get_job(v1::GetJobRequest { name: job.name.clone() }).await.unwrap().into_inner();
    assert_eq!((kept.model, &kept.etag), (model, &etag));
    server.jobs().delete_job(v1::DeleteJobRequest { name: job.name.clone(), etag }).await.unwrap();
    assert_eq!(server.jobs().get_job(v1::GetJobRequest { name: job.name }).await.unwrap_err().code(), Code::NotFound);
    let request = v1::DeleteDatasetRequest { name: dataset, etag: String::new() };
    server.datasets().delete_dataset(request).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn lists_show_what_their_filter_says() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"fold": {}}]}"#;
    let first = server.create_job(&model, &dataset, recipe, "").await.unwrap().name;
    let second = server.create_job(&model, &dataset, recipe, "").await.unwrap().name;
    server.jobs().cancel_job(v1::CancelJobRequest { name: first.clone() }).await.unwrap();
    let jobs = async |filter: &str| {
        let request = v1::ListJobsRequest { parent: PARENT.into(), filter: filter.into(), ..Default::default() };
        let jobs = server.jobs().list_jobs(request).await.unwrap().into_inner().jobs;
        jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };
    assert_eq!(jobs("state = CANCELLED").await, std::slice::from_ref(&first));
    assert_eq!(jobs(&format!("model = {model} AND state != CANCELLED")).await, std::slice::from_ref(&second));
    assert_eq!(jobs("create_time > \"2020-01-01T00:00:00Z\" AND priority >= 0").await, [second, first]);
    assert!(jobs("create_time < \"2020-01-01T00:00:00Z\"").await.is_empty());
    let uploads = v1::ListUploadsRequest {
        parent: PARENT.into(),
        filter: "state = COMPLETE".into(),
        page_size: 1,
        ..Default::default()
    };
    let page = server.uploads().list_uploads(uploads).await.unwrap().into_inner();
    assert_eq!((page.uploads.len(), page.next_page_token.is_empty()), (1, false));
    server.stop().await;
}
