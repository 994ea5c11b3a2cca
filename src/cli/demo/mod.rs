//! `niwaki demo`: everything once, with nothing but this program.
//!
//! A real server on a free port of this machine, a real client, and a data set that is drawn here:
//! draw, train, upload, compress, download, measure again. The recipes are those of `examples/recipes/demo-*.json`.

mod digits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;
use tokio::net::TcpListener;

use super::args::{AccessArgs, DemoArgs};
use super::client::Client;
use super::eval::{Measured, Task};
use super::failure::{Exit, Failure};
use super::jobs::Purpose;
use super::output::{Output, grouped, percent};
use super::progress::Meter;
use super::{datasets, jobs, local, models, this_program};
use crate::api::server::{ServerConfig, serve};
use crate::api::{self, v1};
use crate::format::safetensors;
use crate::recipe::run::{MODEL_FILE, REPORT_FILE};
use crate::settings::Settings;
use crate::tensor::{DType, TensorData};

const TRAIN: &str = include_str!("../../../examples/recipes/demo-train.json");
const COMPRESS: &str = include_str!("../../../examples/recipes/demo-compress.json");

const TRAIN_SAMPLES: usize = 6000;
const TEST_SAMPLES: usize = 2000;

/// What the server measured and what was measured here must be the same but for the order of summation.
const ACCURACY_TOLERANCE: f64 = 1e-9;

/// Shows everything once.
pub fn run(args: &DemoArgs, output: Output) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failure, "RUNTIME", error.to_string());
    local::out(&args.out)?;
    let kept = tempfile::tempdir().map_err(failed)?;
    let config = ServerConfig {
        settings: Settings { data: kept.path().to_path_buf(), ..Settings::default() },
        job_program: this_program()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let (done, ended) = tokio::sync::oneshot::channel::<()>();
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let server = format!("http://{}", listener.local_addr().map_err(failed)?);
        output.note(format!(
            "niwaki {} demo; server on {server}, nothing leaves this machine",
            env!("CARGO_PKG_VERSION")
        ));
        let stop = async {
            // The sender is dropped when the demo has ended, well or not.
            let _ = ended.await;
        };
        let show = async {
            let demo = Demo { args, output, server };
            let shown = tokio::select! {
                shown = demo.show() => shown,
                _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("the demo was stopped")),
            };
            drop(done);
            shown
        };
        let (served, shown) = tokio::join!(serve(listener, config, stop), show);
        served?;
        shown
    })
}

struct Demo<'a> {
    args: &'a DemoArgs,
    output: Output,
    server: String,
}

impl Demo<'_> {
    async fn show(&self) -> Result<(), Failure> {
        let out = &self.args.out;
        let data = out.join("data");
        let clock = Instant::now();
        write_data(&data, self.args.seed)?;
        self.said("draw", clock, format!("{TRAIN_SAMPLES} digits to train on, {TEST_SAMPLES} to test with"));

        let access = AccessArgs::plain(self.server.clone());
        let client = Client::connect(&access).await?;
        let clock = Instant::now();
        let dataset = datasets::put(&client, &data, Some("digits".into()), None).await?;
        self.said("upload", clock, "the data set".into());

        let clock = Instant::now();
        let trained = self.job(&client, String::new(), &dataset, TRAIN).await?;
        let figures = metrics(&trained)?;
        let small =
            format!("{} weights, {} right on the test split", grouped(figures.params), percent(figures.accuracy));
        self.said("train", clock, small);

        let clock = Instant::now();
        let before = out.join("trained");
        jobs::download(&client, &trained, &before).await?;
        let model = models::put(&client, &before.join(MODEL_FILE), None, Some("trained".into())).await?;
        self.said("upload", clock, format!("the trained model, {} B", grouped(figures.bytes)));

        let clock = Instant::now();
        let small = self.job(&client, model.name, &dataset, COMPRESS).await?;
        self.said("compress", clock, format!("prune, train, quantize: {} B", grouped(metrics(&small)?.bytes)));

        let clock = Instant::now();
        jobs::download(&client, &small, out).await?;
        let measured = self.measure(out, &data)?;
        let claimed = metrics(&small)?.accuracy;
        if (measured.accuracy - claimed).abs() > ACCURACY_TOLERANCE {
            let message =
                format!("the server claims {claimed} accuracy, the downloaded file has {}", measured.accuracy);
            return Err(Failure::new(Exit::Failure, "CLAIM_NOT_MET", message));
        }
        self.said(
            "measure",
            clock,
            format!("the downloaded file again, here: {}, as claimed", percent(measured.accuracy)),
        );
        self.answer(&small)
    }

    /// Runs a job to its end.
    async fn job(
        &self,
        client: &Client,
        model: String,
        dataset: &v1::Dataset,
        recipe: &str,
    ) -> Result<v1::Job, Failure> {
        let recipe = Some(jobs::recipe_message(recipe)?);
        let job = v1::Job { model, dataset: dataset.name.clone(), recipe, ..Default::default() };
        let job = jobs::create(client, job, Purpose::Queue).await?;
        let mut meter = Meter::new(self.output);
        let watched = jobs::watch_to_end(client, &job.name, &mut meter).await;
        meter.finish();
        watched
    }

    /// Measures the downloaded model without the server.
    fn measure(&self, out: &Path, data: &Path) -> Result<Measured, Failure> {
        let task = Task { model: out.join(MODEL_FILE), graph: None, data: data.into(), transforms: vec![], seed: 0 };
        tokio::task::block_in_place(|| task.measure(&AtomicBool::new(false)))
    }

    fn said(&self, what: &str, clock: Instant, text: String) {
        self.output.note(format!("  {what:<9} {:>5.1} s  {text}", clock.elapsed().as_secs_f64()));
    }

    fn answer(&self, job: &v1::Job) -> Result<(), Failure> {
        let (model, report) = (self.args.out.join(MODEL_FILE), self.args.out.join(REPORT_FILE));
        let result = job.result.as_ref().ok_or_else(no_result)?;
        self.output.answer(
            || format!("\n{}\nmodel   {}\nreport  {}\n", jobs::result_text(result), model.display(), report.display()),
            || json!({"result": api::json::to_value("JobResult", result), "files": [model, report]}),
        );
        let data = self.args.out.join("data");
        self.output.next([
            format!("niwaki inspect {}", model.display()),
            format!("niwaki eval {} --data {}", model.display(), data.display()),
            format!("niwaki serve, then: niwaki datasets put {}", data.display()),
        ]);
        Ok(())
    }
}

fn metrics(job: &v1::Job) -> Result<crate::report::Metrics, Failure> {
    Ok(jobs::metrics(job.result.as_ref().ok_or_else(no_result)?.result.as_ref()))
}

fn no_result() -> Failure {
    Failure::new(Exit::Failure, "NO_RESULT", "the server says that the job succeeded but sends no result")
}

/// Draws the data set into the folder `data`: `train.safetensors` and `test.safetensors`.
fn write_data(data: &Path, seed: u64) -> Result<(), Failure> {
    std::fs::create_dir_all(data).map_err(|error| Failure::io(data, &error))?;
    for (name, count) in [("train", TRAIN_SAMPLES), ("test", TEST_SAMPLES)] {
        let digits = digits::draw(count, seed, name);
        let shape = vec![count, 1, digits::SIDE, digits::SIDE];
        let tensor = |shape, bytes| {
            TensorData::new(DType::U8, shape, bytes).expect("as many pixels and labels are drawn as the shape has")
        };
        let tensors = BTreeMap::from([
            ("inputs".to_string(), tensor(shape, digits.pixels)),
            ("labels".to_string(), tensor(vec![count], digits.labels)),
        ]);
        let path: PathBuf = data.join(format!("{name}.safetensors"));
        let file = safetensors::write(&tensors, &BTreeMap::new())?;
        std::fs::write(&path, file).map_err(|error| Failure::io(&path, &error))?;
    }
    Ok(())
}
