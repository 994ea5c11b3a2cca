//! `niwaki analyze` and `niwaki models analyze`: what can be cut from a model, and what each part of it can do without.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::{AnalyzeArgs, QuestionArgs};
use super::client::Client;
use super::failure::Failure;
use super::output::{Output, grouped, percent, table};
use super::{interruptible, local};
use crate::api::convert::analysis::analysis as to_pb;
use crate::api::convert::recipe_to_pb;
use crate::api::{json, v1};
use crate::recipe::Upload;
use crate::recipe::analyze::{Question, analyze};
use crate::report::Analysis;

/// Looks at a model here, without a server.
pub fn run(args: &AnalyzeArgs, output: Output) -> Result<(), Failure> {
    let task = Task {
        model: args.model.clone(),
        graph: args.graph.clone(),
        data: args.data.clone(),
        question: args.question.clone(),
    };
    let found = to_pb(interruptible(move |pressed| task.look(pressed))?);
    show(&found, output);
    Ok(())
}

/// Lets the server look at one of its models.
pub async fn remote(
    client: &Client,
    model: &str,
    dataset: Option<&str>,
    question: QuestionArgs,
    output: Output,
) -> Result<(), Failure> {
    let recipe = question.recipe.as_deref().map(local::recipe).transpose()?;
    let request = v1::AnalyzeModelRequest {
        name: client.resource("models", model),
        dataset: dataset.map(|dataset| client.resource("datasets", dataset)).unwrap_or_default(),
        recipe: recipe.as_ref().map(recipe_to_pb),
        ratios: question.ratios,
        samples: question.samples,
    };
    let found = client.models().analyze_model(request).await?.into_inner();
    show(&found, output);
    Ok(())
}

struct Task {
    model: PathBuf,
    graph: Option<String>,
    data: Option<PathBuf>,
    question: QuestionArgs,
}

impl Task {
    fn look(&self, stop: &AtomicBool) -> Result<Analysis, Failure> {
        let Upload { model, .. } = local::model(&self.model, self.graph.as_deref())?;
        let QuestionArgs { recipe, ratios, samples } = &self.question;
        let recipe = recipe.as_deref().map(local::recipe).transpose()?;
        let source = recipe.as_ref().and_then(|recipe| recipe.data.source.as_ref());
        let data = self.data.as_deref().map(|path| local::dataset(path, source)).transpose()?;
        let question = Question { recipe: recipe.as_ref(), ratios, samples: *samples as usize };
        Ok(analyze(&model, data.as_ref(), &question, &|| stop.load(Ordering::Relaxed))?)
    }
}

fn show(found: &v1::AnalyzeModelResponse, output: Output) {
    output.answer(|| text(found), || json::to_value("AnalyzeModelResponse", found));
    for note in &found.notes {
        output.note(format!("note: {note}"));
    }
}

fn text(found: &v1::AnalyzeModelResponse) -> String {
    let whole = found.whole.unwrap_or_default();
    let mut text = format!("as it is: {}\n\n", figures(&whole, whole.accuracy.map(|_| found.samples)));
    text.push_str(&sensitivities(found, &whole));
    if let Some(plan) = &found.plan {
        let after = plan.figures.unwrap_or_default();
        text.push_str(&format!("\nthe plan: {}\n", figures(&after, None)));
        let kept = plan.groups.iter().filter(|group| group.after < group.before);
        let rows = kept.map(|group| vec![group.name.clone(), grouped(group.before), grouped(group.after)]);
        text.push_str(&table(&["group", "channels", "stay"], &["group"], rows));
    }
    text
}

fn figures(figures: &v1::NetworkFigures, samples: Option<u64>) -> String {
    let accuracy = match (figures.accuracy, samples) {
        (Some(accuracy), Some(samples)) => format!(", {} right of {} samples", percent(accuracy), grouped(samples)),
        (Some(accuracy), None) => format!(", {} right before any training", percent(accuracy)),
        _ => String::new(),
    };
    let (params, macs, bytes) = (grouped(figures.params), grouped(figures.macs), grouped(figures.bytes));
    format!("{params} parameters, {macs} MACs, {bytes} bytes{accuracy}")
}

/// One row a group; by ratio the accuracy, or, where none was measured, the share of the multiplications that is left.
fn sensitivities(found: &v1::AnalyzeModelResponse, whole: &v1::NetworkFigures) -> String {
    let ratios: Vec<f64> = found
        .groups
        .iter()
        .find(|group| !group.points.is_empty())
        .map(|group| group.points.iter().map(|point| point.ratio).collect())
        .unwrap_or_default();
    let measured = whole.accuracy.is_some();
    let what = if measured { "right" } else { "MACs" };
    let titles: Vec<String> = ratios.iter().map(|ratio| format!("{what} at -{}", percent(*ratio))).collect();
    let mut header = vec!["group", "channels", "layers"];
    header.extend(titles.iter().map(String::as_str));
    header.push("");
    let rows = found.groups.iter().map(|group| {
        let mut row = vec![group.name.clone(), grouped(group.channels), group.layers.len().to_string()];
        row.extend(ratios.iter().enumerate().map(|(place, _)| {
            let figures = group.points.get(place).and_then(|point| point.figures);
            match figures {
                Some(figures) if measured => percent(figures.accuracy.unwrap_or(0.0)),
                Some(figures) => percent(figures.macs as f64 / whole.macs.max(1) as f64),
                None => String::new(),
            }
        }));
        row.push(group.kept_because.clone());
        row
    });
    table(&header, &["group", ""], rows)
}
