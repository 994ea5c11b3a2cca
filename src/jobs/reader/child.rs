//! A reader from inside: locks itself in, reads, says what it found.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{Answer, DataFiles, MEMORY, Part, Question, READ_FILE, ReadFile, Task, Verdict};
use crate::data::{self, Dataset, Files, transform};
use crate::error::{Kind, Violation};
use crate::format::{self, Architecture, Model, ModelFiles};
use crate::graph::{Graph, cost};
use crate::jobs::job::Failure;
use crate::jobs::protocol::{DATA_FOLDER, ModelFile};
use crate::recipe::{Given, Recipe, Upload, analyze};
use crate::report::Analysis;
use crate::sandbox;
use crate::store::{DatasetDetail, ModelDetail};

/// The most names of classes that a summary has.
pub const MAX_CLASS_NAMES: usize = 1000;
/// The most violations that are told.
const MAX_VIOLATIONS: usize = 1000;

/// What `niwaki read-child FOLDER` does. `read_recipe` reads a recipe's file form.
pub fn main(folder: &Path, read_recipe: impl Fn(&str) -> Result<Recipe, String>) -> ExitCode {
    let said = read_in_a_room(folder, read_recipe).and_then(|answer| {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.flush()
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "no answer");
            ExitCode::FAILURE
        }
    }
}

fn read_in_a_room(folder: &Path, read_recipe: impl Fn(&str) -> Result<Recipe, String>) -> io::Result<Answer> {
    // Written by the server, so this may be read outside of the room; nothing else is.
    let ReadFile { limits, task } = serde_json::from_slice(&fs::read(folder.join(READ_FILE))?)?;
    let room = sandbox::enter(folder, &limits)?;
    let verdict = match task {
        Task::Model(file) => model(&file.files(folder), file.architecture.as_ref()).map(Verdict::Model),
        Task::Emitted(file) => {
            let files = ModelFiles::from([(file.clone(), folder.join(file))]);
            model(&files, None).map(Verdict::Model)
        }
        Task::Dataset(files) => dataset(folder, files).and_then(|found| {
            found.check_teaches().map_err(|error| (Part::Data, Failure::of(&error)))?;
            Ok(Verdict::Dataset(Box::new(summary(&found))))
        }),
        Task::Fit { recipe, model, extra_models, data } => {
            fit(folder, read_recipe(&recipe), model, extra_models, data).map(Verdict::Fit)
        }
        Task::Analyze { model, question, data } => {
            let recipe = question.recipe.as_deref().map(read_recipe).transpose();
            analyze(folder, recipe, &question, &model, data).map(|analysis| Verdict::Analysis(Box::new(analysis)))
        }
    };
    let verdict = verdict.unwrap_or_else(|(part, failure)| Verdict::Refused { part, failure });
    Ok(Answer { verdict, peak_bytes: sandbox::peak_bytes(), gaps: room.gaps() })
}

type Refused = (Part, Failure);

fn model(files: &ModelFiles, architecture: Option<&Architecture>) -> Result<ModelDetail, Refused> {
    let (_, Model { graph, metadata }) = open(files, architecture, Part::Model)?;
    transform::of_model(&metadata, &graph.input_shape()).map_err(|e| (Part::Model, Failure::of(&e)))?;
    Ok(figures(&graph))
}

fn open(files: &ModelFiles, architecture: Option<&Architecture>, part: Part) -> Result<(u64, Model), Refused> {
    match format::open_model_files(files, architecture) {
        Ok(Ok(model)) => Ok(model),
        Ok(Err(error)) => Err((part, Failure::of(&error))),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            // The server knows the limit, and finds the words.
            Err((part, Failure::new(Kind::ResourceExhausted, MEMORY, "there is too little memory")))
        }
        Err(error) => Err((part, Failure::new(Kind::Internal, "INTERNAL", error.to_string()))),
    }
}

fn dataset(folder: &Path, files: DataFiles) -> Result<Dataset, Refused> {
    let folder = folder.join(DATA_FOLDER);
    let paths = files.names.into_iter().enumerate().map(|(place, name)| (name, folder.join(place.to_string())));
    let found = data::open(&Files(paths.collect()), files.source.as_ref());
    found.map_err(|error| {
        let failure = Failure::of(&error);
        let is_memory = failure.reason == "OUT_OF_MEMORY";
        (Part::Data, if is_memory { Failure { reason: MEMORY.into(), ..failure } } else { failure })
    })
}

fn fit(
    folder: &Path,
    recipe: Result<Recipe, String>,
    model: Option<ModelFile>,
    extra_models: BTreeMap<String, ModelFile>,
    mut data: DataFiles,
) -> Result<Vec<Violation>, Refused> {
    let recipe = recipe.map_err(|text| (Part::Recipe, Failure::new(Kind::InvalidArgument, "RECIPE", text)))?;
    let upload = |file: &ModelFile, part| {
        open(&file.files(folder), file.architecture.as_ref(), part).map(|(bytes, model)| Upload { bytes, model })
    };
    let model = model.map(|file| upload(&file, Part::Model)).transpose()?;
    let extra = extra_models.iter().map(|(name, file)| Ok((name.clone(), upload(file, Part::Extra(name.clone()))?)));
    let extra: BTreeMap<String, Upload> = extra.collect::<Result<_, Refused>>()?;
    // What a recipe says of the files comes before what the data set says.
    data.source = recipe.data.source.clone().or(data.source);
    let dataset = dataset(folder, data)?;
    let mut violations = recipe.validate(&Given { model: model.as_ref(), extra: &extra, data: &dataset });
    violations.truncate(MAX_VIOLATIONS);
    Ok(violations)
}

fn analyze(
    folder: &Path,
    recipe: Result<Option<Recipe>, String>,
    question: &Question,
    model: &ModelFile,
    data: Option<DataFiles>,
) -> Result<Analysis, Refused> {
    let recipe = recipe.map_err(|text| (Part::Recipe, Failure::new(Kind::InvalidArgument, "RECIPE", text)))?;
    let (_, model) = open(&model.files(folder), model.architecture.as_ref(), Part::Model)?;
    let said = recipe.as_ref().and_then(|recipe| recipe.data.source.clone());
    let data = data.map(|data| dataset(folder, DataFiles { source: said.or(data.source), ..data })).transpose()?;
    let question = analyze::Question { recipe: recipe.as_ref(), ratios: &question.ratios, samples: question.samples };
    let found = analyze::analyze(&model, data.as_ref(), &question, &|| false);
    found.map_err(|error| (Part::Recipe, Failure::of(&error)))
}

fn figures(graph: &Graph) -> ModelDetail {
    let cost = cost::of_graph(graph);
    let shape = |shape: Vec<usize>| shape.into_iter().map(|dim| dim as u64).collect();
    ModelDetail {
        architecture: None,
        params: cost.params,
        nonzero_params: cost.nonzero_params,
        macs: cost.macs,
        nodes: graph.nodes().len() as u32,
        input_shape: shape(graph.input_shape()),
        output_shape: shape(graph.output_shape()),
    }
}

fn summary(dataset: &Dataset) -> DatasetDetail {
    let samples = |part: &Option<Arc<data::Part>>| part.as_ref().map_or(0, |part| part.labels.len() as u64);
    DatasetDetail {
        source: dataset.source.into(),
        data_source: None,
        train_samples: dataset.train.labels.len() as u64,
        test_samples: samples(&dataset.test),
        validation_samples: samples(&dataset.validation),
        selection_samples: samples(&dataset.selection),
        class_names: dataset.class_names.iter().take(MAX_CLASS_NAMES).cloned().collect(),
        classes: dataset.classes,
        sample_shape: dataset.train.sample_shape.iter().map(|&dim| dim as u64).collect(),
    }
}
