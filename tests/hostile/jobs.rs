//! Recipes, jobs and lists: inputs 70 to 79 and 86 to 90.

use super::*;
use v1::job::State;

const SHORT: &str = r#"{"version": 1, "steps": [{"train": {"epochs": 1, "batch_size": 32}}]}"#;

/// What shells, templates, loggers and databases would do something with.
const PAYLOADS: [&str; 8] = [
    "'); DROP TABLE jobs; --",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "%s%s%s%n",
    "$(id) `id` ; id | id",
    "${jndi:ldap://localhost/x}",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "line\nlevel=ERROR forged=true\u{1b}[31m",
];

#[tokio::test]
async fn text_that_other_programs_would_run_is_text() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    for payload in PAYLOADS {
        let mut recipe: v1::Recipe = niwaki::api::json::from_str("Recipe", SHORT).unwrap();
        recipe.name = payload.into();
        recipe.description = payload.into();
        let job =
            v1::Job { model: model.clone(), dataset: dataset.clone(), recipe: Some(recipe), ..Default::default() };
        let made = match server.send_job(job, "", false).await {
            Ok(made) => made,
            // A name may also be refused as a name.
            Err(error) => {
                assert_eq!(error.code(), Code::InvalidArgument, "{payload}");
                assert!(fields(&error).iter().all(|field| field.starts_with("job.recipe.")), "{error:?}");
                continue;
            }
        };
        let get = v1::GetJobRequest { name: made.name };
        let read = server.jobs().get_job(get).await.unwrap().into_inner().recipe.unwrap();
        assert_eq!((read.name.as_str(), read.description.as_str()), (payload, payload));
    }
    for payload in PAYLOADS.iter().map(|payload| payload.replace([' ', '\n', '\u{1b}'], "/**/")) {
        let again = server.create_job(&model, &dataset, SHORT, &payload).await.unwrap();
        assert_eq!(server.create_job(&model, &dataset, SHORT, &payload).await.unwrap().name, again.name, "{payload}");
        for name in [format!("{PARENT}/jobs/{payload}"), format!("{PARENT}/models/{payload}"), payload.clone()] {
            let (code, _) = refusal(server.jobs().get_job(v1::GetJobRequest { name }).await);
            assert!(matches!(code, Code::InvalidArgument | Code::NotFound), "{payload}");
        }
    }
    neighbours_are_served(&server.channel).await;
    server.stop().await;
}

#[tokio::test]
async fn recipes_of_another_version_are_refused_by_that_field() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    for version in [0u32, 2, u32::MAX] {
        let recipe = SHORT.replace(r#""version": 1"#, &format!(r#""version": {version}"#));
        let error = server.create_job(&model, &dataset, &recipe, "").await.unwrap_err();
        assert!(matches!(error.code(), Code::InvalidArgument | Code::FailedPrecondition), "{error:?}");
        assert_eq!(fields(&error), ["job.recipe.version"]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_cancels_ends_a_job_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let long = r#"{"version": 1, "steps": [{"train": {"epochs": 10000, "batch_size": 1}}]}"#;
    let job = server.create_job(&model, &dataset, long, "").await.unwrap().name;
    let cancels = (0..200).map(|_| {
        let mut jobs = server.jobs();
        let request = v1::CancelJobRequest { name: job.clone() };
        async move { jobs.cancel_job(request).await }
    });
    for answer in futures::future::join_all(cancels).await {
        match answer {
            Ok(job) => assert!(matches!(job.get_ref().state(), State::Cancelling | State::Cancelled), "{job:?}"),
            // One tenant has not all places.
            Err(busy) => assert_eq!(busy.code(), Code::Unavailable, "{busy:?}"),
        }
    }
    let ended = server.ended(&job).await;
    assert_eq!(ended.state(), State::Cancelled);
    let request = v1::CancelJobRequest { name: job.clone() };
    let after = server.jobs().cancel_job(request).await.unwrap().into_inner();
    assert_eq!((after.state(), after.revision), (State::Cancelled, ended.revision));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_who_read_slowly_get_the_latest_and_cost_little() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"train": {"epochs": 100, "batch_size": 8}}]}"#;
    let job = server.create_job(&model, &dataset, recipe, "").await.unwrap();
    // Nobody of them reads until the job has ended.
    let mut watches = Vec::new();
    for _ in 0..100 {
        watches.push(server.watch(&job.name, 0).await);
    }
    let ended = server.ended(&job.name).await;
    assert_eq!(ended.state(), State::Succeeded, "{:?}", ended.error);
    for mut watch in watches {
        let mut last = v1::Job::default();
        while let Some(message) = timeout(LIMIT, watch.message()).await.expect("the watch ends").unwrap() {
            let next = message.job.unwrap();
            assert!(next.revision > last.revision);
            last = next;
        }
        assert_eq!(last.revision, ended.revision);
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_lists_and_of_nobody_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    for token in ["x", "' OR 1=1 --", "AAAA", "../..", "\u{0}", &"a".repeat(100_000)] {
        let list = v1::ListJobsRequest { parent: PARENT.into(), page_token: token.into(), ..Default::default() };
        let error = server.jobs().list_jobs(list).await.unwrap_err();
        assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["page_token".to_string()]));
    }
    for (size, code) in
        [(i32::MAX, Code::Ok), (0, Code::Ok), (-1, Code::InvalidArgument), (i32::MIN, Code::InvalidArgument)]
    {
        let list = v1::ListJobsRequest { parent: PARENT.into(), page_size: size, ..Default::default() };
        assert_eq!(server.jobs().list_jobs(list).await.map_or_else(|error| error.code(), |_| Code::Ok), code, "{size}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_watch_from_a_revision_that_is_to_come_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, SHORT, "").await.unwrap();
    for after_revision in [job.revision + 1, u64::MAX] {
        let watch = v1::WatchJobRequest { name: job.name.clone(), after_revision };
        let error = server.jobs().watch_job(watch).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::OutOfRange, "REVISION"));
    }
    server.stop().await;
}

#[tokio::test]
async fn priorities_and_time_limits_beyond_bounds_are_refused_by_their_fields() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let second = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let send = async |priority, time_limit| {
        let recipe = niwaki::api::json::from_str("Recipe", SHORT).unwrap();
        let (model, dataset) = (model.clone(), dataset.clone());
        let job = v1::Job { model, dataset, recipe: Some(recipe), priority, time_limit, ..Default::default() };
        server.send_job(job, "", false).await
    };
    for (priority, time_limit, field) in [
        (101, None, "job.priority"),
        (i32::MIN, None, "job.priority"),
        (0, second(0), "job.time_limit"),
        (0, second(-5), "job.time_limit"),
        (0, second(i64::MAX), "job.time_limit"),
    ] {
        assert_eq!(fields(&send(priority, time_limit).await.unwrap_err()), [field]);
    }
    let made = send(-100, second(60)).await.unwrap();
    assert_eq!((made.priority, made.time_limit), (-100, second(60)));
    server.stop().await;
}
