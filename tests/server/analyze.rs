//! What can be cut from a model, asked through the API.

use niwaki::graph::op::Activation;

use super::*;

fn request(model: &str, dataset: &str, steps: &str) -> v1::AnalyzeModelRequest {
    let recipe =
        format!(r#"{{"version": 1, "data": {{"transforms": [{{"scale": {{"factor": 0.004}}}}]}}, "steps": {steps}}}"#);
    v1::AnalyzeModelRequest {
        name: model.into(),
        dataset: dataset.into(),
        recipe: Some(niwaki::api::json::from_str("Recipe", &recipe).unwrap()),
        ratios: vec![0.5, 0.25],
        samples: 10,
    }
}

/// A model of two layers, and a data set.
async fn inputs(server: &Server) -> (String, String) {
    let builder = GraphBuilder::new("two", &[1, 4, 4]).flatten("flatten").linear("fc1", 12);
    let mut graph = builder.activation("relu1", Activation::Relu).linear("fc2", 2).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    let file = native::write(&graph, &Default::default()).unwrap();
    let model = server.create_model(&server.put("two.safetensors", &file).await, "").await.unwrap();
    let (_, dataset) = server.inputs().await;
    (model.name, dataset)
}

fn fields(error: &Status) -> Vec<(String, String)> {
    let details = error.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|v| (v.field, v.description)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_told_before_anything_is_trained_and_is_what_a_job_then_does() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = inputs(&server).await;
    let steps = r#"[{"prune_channels": {"param_ratio": 0.6, "round_to": 1, "repair": "REPAIR_NONE", "batches": 2}}]"#;
    let found = server.models().analyze_model(request(&model, &dataset, steps)).await.unwrap().into_inner();
    let whole = found.whole.unwrap();
    assert!(whole.accuracy.is_some() && whole.bytes > 0);
    assert_eq!(found.samples, 10);
    let cuttable: Vec<_> = found.groups.iter().filter(|group| group.kept_because.is_empty()).collect();
    assert!(!cuttable.is_empty());
    for group in &cuttable {
        // In rising order, whatever the order of the question.
        assert_eq!(group.points.iter().map(|point| point.ratio).collect::<Vec<_>>(), [0.25, 0.5]);
        for point in &group.points {
            let figures = point.figures.unwrap();
            assert!(point.keep < group.channels && figures.params < whole.params && figures.accuracy.is_some());
        }
    }
    let last = found.groups.last().unwrap();
    assert!(last.points.is_empty() && last.kept_because.contains("it is an output of the network"), "{last:?}");

    let plan = found.plan.unwrap();
    let figures = plan.figures.unwrap();
    assert!(figures.params as f64 <= 0.6 * whole.params as f64 && figures.bytes < whole.bytes);
    let recipe = request(&model, &dataset, steps).recipe;
    let job = v1::Job { model, dataset, recipe, ..Default::default() };
    let job = server.send_job(job, "", false).await.unwrap();
    let ended = server.ended(&job.name).await;
    let result = ended.result.expect("the job succeeds");
    let did = result.steps[0].channels.as_ref().unwrap();
    assert_eq!(did.groups, plan.groups);
    assert_eq!(result.result.as_ref().unwrap().params, figures.params);
    assert!(did.masked_difference < 1e-5, "{}", did.masked_difference);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_data_only_costs_are_told() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, _) = inputs(&server).await;
    let asked = v1::AnalyzeModelRequest { name: model, ..Default::default() };
    let found = server.models().analyze_model(asked).await.unwrap().into_inner();
    assert_eq!((found.samples, found.whole.unwrap().accuracy, found.plan), (0, None, None));
    assert_eq!(found.groups[0].points.len(), 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cut_is_told_by_field() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = inputs(&server).await;
    let cases = [
        (r#"{"mac_ratio": 0.01, "max_ratio": 0.5}"#, "recipe.prune_channels.mac_ratio", "is the least that can be had"),
        (r#"{"ratio": 0.5, "ignored": ["conv9"]}"#, "recipe.prune_channels.ignored", "fits no layer"),
        (r#"{"ratio": 0.5, "layers": ["fc2"]}"#, "recipe.prune_channels.layers", "it is an output of the network"),
        (
            r#"{"ratio": 0.5, "importance": "IMPORTANCE_BATCH_NORM_SCALE"}"#,
            "recipe.prune_channels.importance",
            "no batch normalisation",
        ),
        (r#"{"ratio": 1}"#, "recipe.steps[0].prune_channels.ratio", "from 0 up to but not including 1"),
        (r#"{"ratio": 0.5, "importance": 77}"#, "recipe.steps[0].prune_channels.importance", "77 is no importance"),
    ];
    for (step, field, text) in cases {
        let asked = request(&model, &dataset, &format!(r#"[{{"prune_channels": {step}}}]"#));
        let error = server.models().analyze_model(asked).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{step}: {error}");
        let found = fields(&error);
        assert!(found.len() == 1 && found[0].0 == field && found[0].1.contains(text), "{step}: {found:?}");
    }
    let asked = v1::AnalyzeModelRequest {
        ratios: vec![0.5, 1.0, f64::NAN],
        ..request(&model, &dataset, r#"[{"evaluate": {}}]"#)
    };
    let error = server.models().analyze_model(asked).await.unwrap_err();
    assert_eq!(fields(&error).into_iter().map(|(field, _)| field).collect::<Vec<_>>(), ["ratios[1]", "ratios[2]"]);
    let absent = format!("{dataset}0");
    let asked = v1::AnalyzeModelRequest { dataset: absent, ..request(&model, &dataset, r#"[{"evaluate": {}}]"#) };
    assert_eq!(server.models().analyze_model(asked).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}
