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
    let list = v1::ListModelsRequest { parent: PARENT.into(), ..Default::default() };
    assert!(server.models().list_models(list).await.unwrap().into_inner().models.is_empty());
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
    let mut request = v1::ListModelsRequest { parent: PARENT.into(), page_size: 2, page_token: String::new() };
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
