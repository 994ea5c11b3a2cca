//! Every kind of step through the API, other models in a job, and requests that only ask.

use super::*;
use v1::job::State;

const TRAIN: &str = r#"{"epochs": 2, "batch_size": 32, "learning_rate": 0.05}"#;

/// Runs the steps on a network with what they need, and gives the job as it ended.
async fn run_steps(server: &Server, dataset: &str, extra: &[(&str, &str)], steps: &str) -> v1::Job {
    let job = server.send_job(job(dataset, extra, steps), "", false).await.unwrap();
    server.ended(&job.name).await
}

/// A job that starts from a small built-in network.
fn job(dataset: &str, extra: &[(&str, &str)], steps: &str) -> v1::Job {
    let recipe = format!(
        r#"{{"version": 1, "seed": 1, "data": {{"transforms": [{{"scale": {{"factor": 0.004}}}}]}},
            "start": {{"preset": "mlp:input=1x4x4,hidden=24-16,classes=2,activation=tanh",
                       "init": {{"glorot": {{}}}}, "train": {TRAIN}}},
            "steps": {steps}}}"#
    );
    let recipe = niwaki::api::json::from_str("Recipe", &recipe).unwrap();
    let extra_models = extra.iter().map(|(n, m)| (n.to_string(), m.to_string())).collect();
    v1::Job { dataset: dataset.into(), recipe: Some(recipe), extra_models, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_step_runs_as_a_job_and_tells_its_effect() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let steps = r#"[{"evaluate": {}},
            {"insert_batch_norm": {"batches": 2}},
            {"insert_dropout": {"after": ["tanh1"], "rate": 0.1}},
            {"train": {"steps": 9, "batch_size": 32, "frozen": ["fc1.*"], "ema": {"decay": 0.5},
                         "cross_entropy": {"label_smoothing": 0.1}, "clip": {"norm": {"max": 0.01}}}},
            {"recalibrate_batch_norm": {"batches": 2}},
            {"fold": {}},
            {"low_rank": {"rank": 4, "ignored": ["fc3"]}},
            {"prune_weights": {"sparsity": 0.2}},
            {"prune_channels": {"ratio": 0.25, "round_to": 4, "batches": 2}},
            {"initialise": {"normal": {"std": 0.2}}},
            {"student": {"preset": "mlp:input=1x4x4,hidden=8,classes=2"}},
            {"train": {"epochs": 2, "batch_size": 32, "distill": {"temperature": 2, "hard_weight": 0.5}}},
            {"student": {"model": "small"}},
            {"train": {"epochs": 2, "batch_size": 32, "mixup": {"alpha": 0.5},
                         "distill": {"teacher": "small"}}},
            {"quantize": {"format": "FORMAT_BF16"}}]"#;
    let ended = run_steps(&server, &dataset, &[("small", &model)], steps).await;
    assert_eq!(ended.state(), State::Succeeded, "{:?}", ended.error);
    assert_eq!(ended.extra_models["small"], model);
    let result = ended.result.unwrap();
    let kinds: Vec<&str> = result.steps.iter().map(|step| step.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "evaluate",
            "insert-batch-norm",
            "insert-dropout",
            "train",
            "recalibrate-batch-norm",
            "fold",
            "low-rank",
            "prune-weights",
            "prune-channels",
            "initialise",
            "student",
            "train",
            "student",
            "train",
            "quantize"
        ]
    );
    for (place, added, removed) in [(1, 2, 0), (2, 1, 0), (5, 0, 3)] {
        let rewrite = result.steps[place].rewrite.as_ref().unwrap();
        assert_eq!((rewrite.added.len(), rewrite.removed.len()), (added, removed), "{:?}", result.steps[place]);
        // Rounding in f32, through a few layers.
        assert!(rewrite.output_difference < 1e-5, "{:?}", result.steps[place]);
    }
    let Some(v1::step_effect::Detail::Train(trained)) = &result.steps[3].detail else { panic!("no training") };
    assert_eq!((trained.total_steps, trained.clipped_steps, trained.curve.len()), (9, 9, 9));
    let layers = &result.steps[6].low_rank;
    let ranks: Vec<(&str, u64)> = layers.iter().map(|layer| (layer.name.as_str(), layer.rank)).collect();
    assert_eq!(ranks, [("fc1", 4), ("fc2", 4), ("fc3", 0)]);
    assert_eq!(layers[2].kept_because, "named in ignored");
    assert!(layers[0].relative_error > 0.0 && layers[0].energy.len() == 16);
    let cut = result.steps[8].channels.as_ref().unwrap();
    assert!(cut.groups.iter().any(|group| group.after < group.before) && cut.masked_difference < 1e-5, "{cut:?}");
    let (before, after) = (result.steps[6].before.unwrap(), result.steps[6].after.unwrap());
    assert!(after.macs < before.macs && after.params < before.params);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_of_a_search_is_told_and_can_be_downloaded() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (_, dataset) = server.inputs().await;
    let search = r#"[{"evolve_channels": {"cost": "COST_PARAMS", "population": 4, "generations": 2, "round_to": 2,
                                          "batches": 2, "knee": {}}}]"#;
    let ended = run_steps(&server, &dataset, &[], search).await;
    assert_eq!(ended.state(), State::Succeeded, "{:?}", ended.error);
    let result = ended.result.unwrap();
    let found = result.steps[0].evolution.as_ref().unwrap();
    assert_eq!((found.generations, found.evaluations, found.split.as_str()), (2, 8, "validation"));
    assert_eq!(found.front.iter().filter(|member| member.chosen).count(), 1);
    for member in &found.front {
        assert_eq!(member.keep.len(), found.groups.len());
        let artifact = result.artifacts.iter().find(|artifact| artifact.file_name == member.file).unwrap();
        let bytes = jobs::download(&server, &artifact.name, 0, 0).await.unwrap();
        assert_eq!(bytes.len() as u64, member.bytes);
        let graph = niwaki::format::open_model(bytes.into(), None).unwrap().graph;
        assert_eq!(niwaki::graph::cost::of_graph(&graph).params, member.params);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_only_asks_checks_everything_and_creates_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let asked = job(&dataset, &[("small", &model)], r#"[{"fold": {}}]"#);
    let found = server.send_job(asked, "ask", true).await.unwrap();
    assert_eq!((found.name.as_str(), found.state(), &found.extra_models["small"]), ("", State::Unspecified, &model));
    let bad = job(&dataset, &[], r#"[{"recalibrate_batch_norm": {}}, {"student": {"model": "large"}}]"#);
    let error = server.send_job(bad, "", true).await.unwrap_err();
    let fields: Vec<String> =
        error.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["job.recipe.steps[0].recalibrate_batch_norm", "job.recipe.steps[1].student.model"]);
    let list = v1::ListJobsRequest { parent: PARENT.into(), ..Default::default() };
    assert!(server.jobs().list_jobs(list).await.unwrap().into_inner().jobs.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn other_models_must_exist_and_have_plain_names() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let absent = model.replace(model.rsplit('/').next().unwrap(), "absent");
    let error = server.send_job(job(&dataset, &[("teacher", &absent)], "[]"), "", false).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    for (name, model) in [("../x", model.as_str()), ("", &model), ("teacher", "models/x")] {
        let error = server.send_job(job(&dataset, &[(name, model)], "[]"), "", false).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name}");
        let field = &error.get_details_bad_request().unwrap().field_violations[0].field;
        assert!(field.starts_with("job.extra_models"), "{field}");
    }
    // What is told, and in which order, is the same each time.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let bad: Vec<(&str, &str)> = names.iter().map(|name| (*name, "models/x")).collect();
    for (models, told) in [
        (&bad[..8], names[..8].iter().map(|name| format!("job.extra_models.{name}")).collect()),
        (&bad[..], vec!["job.extra_models".to_string()]),
    ] {
        let error = server.send_job(job(&dataset, models, "[]"), "", false).await.unwrap_err();
        let violations = error.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<String> = violations.into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, told);
    }
    server.stop().await;
}
