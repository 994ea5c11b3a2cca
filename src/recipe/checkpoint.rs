//! The state of a running recipe as a file, so that a later run goes on from there and ends with the same bytes.
//!
//! `checkpoint.safetensors` is a safetensors file, read as strictly as any other. Its metadata say whose state it is:
//!
//! | key | what |
//! |---|---|
//! | `niwaki.checkpoint` | this format's version |
//! | `niwaki.version`, `instruction_set`, `threads` | what computed it: elsewhere the last bits may differ |
//! | `recipe`, `inputs` | digests of the recipe, and of models and data set as they are in memory |
//! | `owner` | the run it belongs to, such as a job's id |
//! | `sha256` | the digest of everything else in the file |
//!
//! A state that is not of this very run, or of whose bytes one has changed, is not gone on from: the run begins anew, says
//! so in the log, and ends with the same bytes later. The tensors are
//!
//! | tensor | what |
//! |---|---|
//! | `course` | JSON: the step at work, the networks' graphs, what the steps did |
//! | `baseline.N` | the trained preset that the steps start from |
//! | `graph.N`, `graph.N.mask` | the network before the step at work, and what is pruned of it |
//! | `mark.N` | the network that was marked last |
//! | `evolved.N` | the network before the last search |
//! | `train.*` | the training at work, see [`TrainState`] |
//!
//! Of a search at work the JSON has all. Nothing of any other step is kept: it begins anew. No time and no chance goes in, so that a state
//! that is saved twice is the same bytes, by which whoever counts a job's losses sees that it does not get on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::error::RecipeError;
use super::files;
use super::identity::{self, Identity};
use super::measure::Candidate;
use super::{Given, Recipe};
use crate::format::{native, safetensors};
use crate::graph::Graph;
use crate::graph::dims::Cut;
use crate::report::{Snapshot, StepEffect, TrainDetail};
use crate::search::nsga2::Nsga2;
use crate::tensor::{DType, TensorData};
use crate::train::TrainState;

/// The file's usual name.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// A run that is to be left ends after this, saved or not.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Of the time at most about this share is spent on saving, however often it is asked for.
const SHARE: u32 = 10;

/// Where a run keeps its state, so that a later run goes on from there.
pub struct Keep<'a> {
    /// The file that is written. If there is one already, it is overwritten in one moment.
    pub file: PathBuf,
    /// What the run goes by: the state of another is not gone on from.
    pub owner: String,
    /// How much work may be lost: the state is saved so often where that takes little of the time.
    pub every: Duration,
    /// The file of an earlier run to go on from.
    pub resume: Option<PathBuf>,
    /// Asked often: whether to save as soon as that can be done.
    pub at_once: &'a (dyn Fn() -> bool + Sync),
    /// Told whenever a state is safely in the file.
    pub kept: &'a mut (dyn FnMut() + Send),
}

/// Whether a run is to be left as soon as its state is saved: what [`Keep::at_once`], [`Keep::kept`] and
/// [`Run::cancelled`](super::run::Run::cancelled) ask and tell.
#[derive(Debug, Default)]
pub struct Leaving {
    asked: OnceLock<Instant>,
    saved: AtomicBool,
}

impl Leaving {
    /// Asks for it.
    pub fn ask(&self) {
        self.asked.get_or_init(Instant::now);
    }

    /// Whether it is to be saved for that.
    pub fn wants_save(&self) -> bool {
        self.asked.get().is_some() && !self.saved.load(Ordering::Relaxed)
    }

    /// The state is saved.
    pub fn saved(&self) {
        self.saved.store(self.asked.get().is_some(), Ordering::Relaxed);
    }

    /// Whether the run may end: it was asked to, and is saved or has come to no place where it could be.
    pub fn may_end(&self) -> bool {
        self.asked.get().is_some_and(|asked| self.saved.load(Ordering::Relaxed) || asked.elapsed() >= LEAVE_WITHIN)
    }
}

/// How far a recipe has come, between two steps.
pub(super) struct Standing {
    pub(super) baseline: Candidate,
    /// What the training of the baseline did, if the recipe starts from a preset.
    pub(super) start: Option<TrainDetail>,
    /// How the baseline stands on the validation split.
    pub(super) first: Snapshot,
    /// The network as it is.
    pub(super) graph: Graph,
    /// Whether its weights are more than fresh ones.
    pub(super) trained: bool,
    /// What a `rewind` goes back to.
    pub(super) mark: Option<Mark>,
    /// What the last search found.
    pub(super) evolved: Option<Evolved>,
    /// What each step done did.
    pub(super) steps: Vec<StepEffect>,
}

/// A network as it was marked.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) graph: Graph,
    /// Whether its weights are more than fresh ones.
    pub(super) trained: bool,
}

/// What the files of a front are made of.
#[derive(Debug, Clone)]
pub(super) struct Evolved {
    /// The step that found it, counted from 1.
    pub(super) step: u32,
    /// The network before.
    pub(super) graph: Graph,
    /// What stays in each of its members.
    pub(super) cuts: Vec<Cut>,
}

/// What a step at work has come to.
pub(super) enum AtWork {
    /// A training.
    Train(TrainState),
    /// A search, between two generations.
    Search(Nsga2),
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Saved {
    /// `None`: the preset is being trained.
    pub(super) standing: Option<Standing>,
    /// What the step at work has come to.
    pub(super) work: Option<AtWork>,
    pub(super) warnings: Vec<String>,
}

/// Keeps the state of one run.
pub(super) struct Keeper<'a> {
    keep: Keep<'a>,
    identity: Identity,
    /// The state before the step at work.
    course: Course,
    tensors: BTreeMap<String, TensorData>,
    /// When the state was last saved, and how long that took.
    last: (Instant, Duration),
}

/// `course` as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    standing: Option<StandingText>,
    /// The part of a [`TrainState`] that is no tensor.
    train: Option<String>,
    search: Option<Nsga2>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StandingText {
    /// The trained preset's graph; `None`: the baseline is the model given.
    baseline: Option<String>,
    baseline_bytes: u64,
    start: Option<TrainDetail>,
    first: Snapshot,
    graph: String,
    trained: bool,
    mark: Option<MarkText>,
    evolved: Option<EvolvedText>,
    steps: Vec<StepEffect>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MarkText {
    graph: String,
    trained: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct EvolvedText {
    step: u32,
    graph: String,
    cuts: Vec<Vec<Vec<usize>>>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(keep: Keep<'a>, recipe: &Recipe, given: &Given<'_>) -> Self {
        Self {
            identity: identity::of(recipe, given, &keep.owner),
            keep,
            course: Course::default(),
            tensors: BTreeMap::new(),
            last: (Instant::now(), Duration::ZERO),
        }
    }

    /// What an earlier run left, if it can be gone on from.
    pub(super) fn resume(&self, given: &Given<'_>) -> Option<Saved> {
        let path = self.keep.resume.as_ref()?;
        let read = fs::read(path).map_err(|error| error.to_string());
        match read.and_then(|bytes| self.open(bytes, given)) {
            Ok(saved) => Some(saved),
            Err(problem) => {
                tracing::warn!(problem, "the checkpoint is put aside, the run begins anew");
                None
            }
        }
    }

    /// Takes note of where the run is: before a step, or before the training of the preset.
    pub(super) fn note(&mut self, standing: Option<&Standing>, warnings: &[String]) {
        self.tensors.clear();
        let standing = standing.map(|at| {
            let preset = at.start.is_some();
            if preset {
                put(&mut self.tensors, "baseline", &at.baseline.graph);
            }
            put(&mut self.tensors, "graph", &at.graph);
            let mark = at.mark.as_ref().map(|mark| {
                put(&mut self.tensors, "mark", &mark.graph);
                MarkText { graph: native::graph_json(&mark.graph), trained: mark.trained }
            });
            let evolved = at.evolved.as_ref().map(|Evolved { step, graph, cuts }| {
                put(&mut self.tensors, "evolved", graph);
                let cuts = cuts.iter().map(|cut| cut.keep.clone()).collect();
                EvolvedText { step: *step, graph: native::graph_json(graph), cuts }
            });
            StandingText {
                baseline: preset.then(|| native::graph_json(&at.baseline.graph)),
                baseline_bytes: at.baseline.bytes,
                start: at.start.clone(),
                first: at.first,
                graph: native::graph_json(&at.graph),
                trained: at.trained,
                mark,
                evolved,
                steps: at.steps.clone(),
            }
        });
        self.course = Course { standing, train: None, search: None, warnings: warnings.to_vec() };
    }

    /// A place from which the run may go on later: its state is saved if it is time for that. `work` is asked for what the
    /// step at work has come to.
    pub(super) fn pause(&mut self, work: Option<&dyn Fn() -> AtWork>) {
        let (last, took) = self.last;
        if !(self.keep.at_once)() && last.elapsed() < self.keep.every.max(took * SHARE) {
            return;
        }
        let begun = Instant::now();
        let folder = self.keep.file.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| self.file(work.map(|state| state())).map_err(io::Error::other));
        match written.and_then(|bytes| files::replace(&self.keep.file, &bytes)) {
            Ok(()) => (self.keep.kept)(),
            // What was saved before is still there.
            Err(error) => tracing::warn!(%error, "the state could not be saved, the run goes on"),
        }
        self.last = (Instant::now(), begun.elapsed());
    }

    /// The bytes of the file.
    fn file(&self, work: Option<AtWork>) -> Result<Vec<u8>, RecipeError> {
        let mut tensors = self.tensors.clone();
        let mut course = self.course.clone();
        match work {
            Some(AtWork::Train(state)) => {
                let (json, parts) = state.to_parts();
                course.train = Some(json);
                tensors.extend(parts.iter().map(|(name, tensor)| (format!("train.{name}"), tensor.clone())));
            }
            Some(AtWork::Search(search)) => course.search = Some(search),
            None => {}
        }
        let json = serde_json::to_vec(&course).expect("numbers and strings are JSON");
        let json = TensorData::new(DType::U8, vec![json.len()], json).expect("the shape is that of the bytes");
        tensors.insert("course".into(), json);
        Ok(safetensors::write(&tensors, &self.identity.sealed(&tensors))?)
    }

    /// Reads a file, or says why it cannot be gone on from.
    fn open(&self, bytes: Vec<u8>, given: &Given<'_>) -> Result<Saved, String> {
        let container = safetensors::read(bytes.into()).map_err(|error| error.to_string())?;
        self.identity.check(&container)?;
        let tensors = container.tensors;
        let course = tensors.get("course").ok_or("it has no course")?;
        let course: Course = serde_json::from_slice(course.bytes()).map_err(|error| error.to_string())?;
        let train = course.train.map(|json| {
            let parts = tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix("train.")?.to_string(), t.clone())));
            TrainState::from_parts(&json, parts.collect())
        });
        let standing = course.standing.map(|text| text.open(&tensors, given)).transpose()?;
        let train = train.transpose().map_err(|error| error.to_string())?;
        let work = train.map(AtWork::Train).or(course.search.map(AtWork::Search));
        Ok(Saved { standing, work, warnings: course.warnings })
    }
}

impl StandingText {
    fn open(self, tensors: &BTreeMap<String, TensorData>, given: &Given<'_>) -> Result<Standing, String> {
        let baseline = match (self.baseline, given.model) {
            (Some(json), _) => take(tensors, "baseline", &json)?,
            (None, Some(upload)) => upload.model.graph.clone(),
            (None, None) => return Err("it has no baseline".into()),
        };
        let mark = self.mark.map(|MarkText { graph, trained }| {
            Ok::<_, String>(Mark { graph: take(tensors, "mark", &graph)?, trained })
        });
        let mark = mark.transpose()?;
        let evolved = self.evolved.map(|EvolvedText { step, graph, cuts }| {
            let cuts = cuts.into_iter().map(|keep| Cut { keep }).collect();
            Ok::<_, String>(Evolved { step, graph: take(tensors, "evolved", &graph)?, cuts })
        });
        let evolved = evolved.transpose()?;
        Ok(Standing {
            baseline: Candidate { graph: baseline, bytes: self.baseline_bytes },
            start: self.start,
            first: self.first,
            graph: take(tensors, "graph", &self.graph)?,
            trained: self.trained,
            mark,
            evolved,
            steps: self.steps,
        })
    }
}

/// Puts a graph's parameters and masks among the tensors, by their numbers: their names may be as long as a tensor's.
fn put(tensors: &mut BTreeMap<String, TensorData>, prefix: &str, graph: &Graph) {
    for (id, param) in graph.param_ids().zip(graph.params()) {
        let name = format!("{prefix}.{}", id.index());
        if let Some(mask) = &param.mask {
            let flags: Vec<u8> = mask.iter().map(|keep| u8::from(*keep)).collect();
            let flags = TensorData::new(DType::Bool, vec![mask.len()], flags).expect("the shape is that of the flags");
            tensors.insert(format!("{name}.mask"), flags);
        }
        tensors.insert(name, param.data.clone());
    }
}

/// The graph that `json` describes, with the parameters and masks that [`put`] put there.
fn take(tensors: &BTreeMap<String, TensorData>, prefix: &str, json: &str) -> Result<Graph, String> {
    let data = |place: usize| tensors.get(&format!("{prefix}.{place}")).cloned();
    let mut graph = native::from_json(json, data).map_err(|error| error.to_string())?;
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let mask = tensors.get(&format!("{prefix}.{}.mask", id.index()));
        edit.set_mask(id, mask.map(|mask| mask.bytes().iter().map(|flag| *flag == 1).collect()));
    }
    edit.commit().map_err(|error| error.to_string())?;
    Ok(graph)
}
