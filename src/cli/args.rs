//! The command line: every verb, argument and help text. What they do is in the files beside this one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::output::Output;

const AFTER_HELP: &str = "\
Data goes to stdout; progress, hints and errors go to stderr. With --json stdout is one JSON document, also for errors:
{\"error\": {\"code\", \"reason\", \"message\", \"violations\"}}.

Exit codes: 0 done, 1 failure, 2 wrong usage or invalid input, 3 the job failed or was cancelled, 5 not found,
7 the server cannot be reached (safe to retry), 130 interrupted.

Logs: NIWAKI_LOG=debug chooses their level, NIWAKI_LOG_FORMAT=json their form.

Examples:
  niwaki demo
  niwaki run examples/recipes/lenet-300-100-prune-weights.json --data mnist/ --out out/
  niwaki inspect out/model.safetensors
  niwaki eval out/model.safetensors --data mnist/

  niwaki serve
  niwaki datasets put mnist/
  niwaki models put lenet.safetensors --graph lenet-300-100
  niwaki jobs create recipe.json --model MODEL --dataset DATASET --watch
  niwaki jobs download JOB --out out/";

const MODELS_HELP: &str = "\
Examples:
  niwaki models put model.safetensors
  niwaki models put lenet.safetensors --graph lenet-300-100 --name 'LeNet, dense'
  niwaki models ls
  niwaki models get MODEL --json";

const DATASETS_HELP: &str = "\
Examples:
  niwaki datasets put mnist/
  niwaki datasets put digits.safetensors --name digits
  niwaki datasets ls";

const JOBS_HELP: &str = "\
Examples:
  niwaki jobs create recipe.json --model MODEL --dataset DATASET --watch
  niwaki jobs watch JOB
  niwaki jobs cancel JOB
  niwaki jobs download JOB --out out/";

const SERVER_HELP: &str = "\
Examples:
  niwaki server info
  niwaki --server http://127.0.0.1:7701 server info --json";

/// Makes neural networks smaller and says honestly what that cost.
#[derive(Debug, Parser)]
#[command(name = "niwaki", version, after_help = AFTER_HELP, max_term_width = 120)]
pub struct Args {
    /// The server that models, datasets, jobs and server talk to.
    #[arg(long, global = true, env = "NIWAKI_SERVER", default_value = "http://127.0.0.1:7700", value_name = "URL")]
    pub server: String,
    /// Prints one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Runs the server.
    Serve(ServeArgs),
    /// Shows everything on a data set it draws itself: train, upload, prune, quantize, download, measure.
    Demo(DemoArgs),
    /// Runs a recipe here, without a server.
    Run(RunArgs),
    /// Measures a model's accuracy on the test split of a data set.
    Eval(EvalArgs),
    /// Shows a model layer by layer.
    Inspect(InspectArgs),
    /// Models on the server.
    #[command(subcommand, after_help = MODELS_HELP)]
    Models(ModelsVerb),
    /// Data sets on the server.
    #[command(subcommand, after_help = DATASETS_HELP)]
    Datasets(DatasetsVerb),
    /// Jobs on the server.
    #[command(subcommand, after_help = JOBS_HELP)]
    Jobs(JobsVerb),
    /// The server itself.
    #[command(subcommand, after_help = SERVER_HELP)]
    Server(ServerVerb),
    /// Reads what lies in a folder that the server has prepared.
    #[command(hide = true)]
    ReadChild {
        /// The folder.
        folder: PathBuf,
    },
    /// Runs one job in a folder that the server has prepared.
    #[command(hide = true)]
    JobChild {
        /// The folder.
        folder: PathBuf,
    },
}

/// `niwaki serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
There is no authentication yet: whoever reaches the port may use the server. It therefore listens on this machine only,
unless --allow-remote says otherwise. The first line on stdout is the address; port 0 takes any free port.

Examples:
  niwaki serve
  niwaki serve --listen 127.0.0.1:0 --data /var/lib/niwaki --workers 2")]
pub struct ServeArgs {
    /// Address and port to listen on.
    #[arg(long, env = "NIWAKI_LISTEN", default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Folder for everything the server keeps.
    #[arg(long, env = "NIWAKI_DATA", default_value = "niwaki-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Jobs that run at the same time; each uses all cores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Allows an address that other machines can reach.
    #[arg(long, env = "NIWAKI_ALLOW_REMOTE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_remote: bool,
}

/// `niwaki demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki demo
  niwaki demo --out digits/ --seed 2")]
pub struct DemoArgs {
    /// Folder for the data set, the models and the report.
    #[arg(long, default_value = "niwaki-demo", value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of the drawn data set.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `NAME=VALUE`.
fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("NAME=VALUE is expected".to_string()),
    }
}

/// `niwaki run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki run examples/recipes/lenet-300-100-prune-weights.json --data mnist/ --out out/
  niwaki run recipe.json --model lenet.safetensors --graph lenet-300-100 --data mnist/ --out out/")]
pub struct RunArgs {
    /// The recipe: the proto3 JSON form of niwaki.v1.Recipe.
    pub recipe: PathBuf,
    /// The model to start from; without it the recipe starts from a built-in network.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE", requires = "model")]
    pub graph: Option<String>,
    /// Another model that the recipe speaks of, a teacher for example, by the name it has there. May be given repeatedly.
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    pub extra_model: Vec<(String, String)>,
    /// The graph of such a model, where the file has none.
    #[arg(long, value_name = "NAME=PRESET|FILE", value_parser = named)]
    pub extra_graph: Vec<(String, String)>,
    /// The data set: a folder or a file.
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Folder for model.safetensors and report.json.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Goes on with a run of the same recipe that was stopped and had the same --out.
    #[arg(long)]
    pub resume: bool,
}

/// `niwaki eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Transforms are those written in the model by niwaki, unless --scale, --mean or --std are given.

Examples:
  niwaki eval out/model.safetensors --data mnist/
  niwaki eval lenet.safetensors --graph lenet-300-100 --data mnist/ --scale 0.00392156862745098 --mean 0.1307 --std 0.3081")]
pub struct EvalArgs {
    /// The model.
    pub model: PathBuf,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE")]
    pub graph: Option<String>,
    /// The data set: a folder or a file.
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Multiplies every input value.
    #[arg(long, value_name = "FACTOR")]
    pub scale: Option<f64>,
    /// Means to subtract after scaling: one, or one a channel.
    #[arg(long, value_delimiter = ',', requires = "std", value_name = "MEAN,..")]
    pub mean: Vec<f64>,
    /// Standard deviations to divide by: one, or one a channel.
    #[arg(long, value_delimiter = ',', requires = "mean", value_name = "STD,..")]
    pub std: Vec<f64>,
    /// The recipe's seed; it chooses the test split where the data set has no test samples of its own.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `niwaki inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki inspect model.safetensors
  niwaki inspect pytorch.safetensors --graph lenet5
  niwaki inspect model.safetensors --graph-json > graph.json")]
pub struct InspectArgs {
    /// The model.
    pub model: PathBuf,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE")]
    pub graph: Option<String>,
    /// Prints the graph in niwaki's JSON form, to edit and to pass as --graph.
    #[arg(long)]
    pub graph_json: bool,
}

/// `niwaki models`.
#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// Uploads a model and prints its id.
    Put {
        /// The `.safetensors` file.
        file: PathBuf,
        /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
        #[arg(long, value_name = "PRESET|FILE")]
        graph: Option<String>,
        /// A label for people; the file's name if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Lists the models, newest first.
    #[command(alias = "list")]
    Ls,
    /// Shows a model.
    Get {
        /// Its id.
        model: String,
    },
}

/// `niwaki datasets`.
#[derive(Debug, Subcommand)]
pub enum DatasetsVerb {
    /// Uploads a data set and prints its id.
    Put {
        /// A folder or a file.
        path: PathBuf,
        /// A label for people; the folder's or file's name if not given.
        #[arg(long)]
        name: Option<String>,
        /// A JSON file that says which files are what, as a recipe's `data.source` does; if not given, they are looked at.
        #[arg(long, value_name = "FILE")]
        source: Option<PathBuf>,
    },
    /// Lists the data sets, newest first.
    #[command(alias = "list")]
    Ls,
    /// Shows a data set.
    Get {
        /// Its id.
        dataset: String,
    },
}

/// `niwaki jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsVerb {
    /// Queues a job and prints its id.
    Create {
        /// The recipe: the proto3 JSON form of niwaki.v1.Recipe.
        recipe: PathBuf,
        /// The model to start from; without it the recipe starts from a built-in network.
        #[arg(long)]
        model: Option<String>,
        /// Another model that the recipe speaks of, by the name it has there. May be given repeatedly.
        #[arg(long, value_name = "NAME=MODEL", value_parser = named)]
        extra_model: Vec<(String, String)>,
        /// The data set.
        #[arg(long)]
        dataset: String,
        /// Follows the job to its end.
        #[arg(long)]
        watch: bool,
        /// Checks everything and queues nothing.
        #[arg(long, conflicts_with = "watch")]
        validate_only: bool,
    },
    /// Lists the jobs, newest first.
    #[command(alias = "list")]
    Ls,
    /// Shows a job.
    Get {
        /// Its id.
        job: String,
    },
    /// Follows a job to its end; Ctrl-C leaves it running.
    Watch {
        /// Its id.
        job: String,
    },
    /// Asks a job to stop.
    Cancel {
        /// Its id.
        job: String,
    },
    /// Downloads what a job has produced.
    Download {
        /// Its id.
        job: String,
        /// Folder for the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `niwaki server`.
#[derive(Debug, Subcommand)]
pub enum ServerVerb {
    /// Shows the server's version, limits and built-in networks.
    Info,
}

impl Args {
    /// Reads the command line. What is wrong with it (or the help that was asked for) has been printed where there is
    /// an exit code instead.
    pub fn read() -> Result<Self, ExitCode> {
        let mut error = match Self::try_parse() {
            Ok(args) => return Ok(args),
            Err(error) => error,
        };
        // clap lists hidden verbs too where a verb is missing.
        if let Some(ContextValue::Strings(verbs)) = error.get(ContextKind::ValidSubcommand) {
            let verbs = verbs.iter().filter(|verb| !verb.ends_with("-child")).cloned().collect();
            error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(verbs));
        }
        let json = std::env::args_os().any(|arg| arg == "--json");
        if json && error.use_stderr() {
            let message = error.render().to_string();
            let failure = Failure::new(Exit::Invalid, "USAGE", message.trim_start_matches("error: ").trim_end());
            return Err(Output::json().fail(&failure));
        }
        let printed = error.print();
        Err(match printed {
            _ if error.use_stderr() => Exit::Invalid.into(),
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let failure = Failure::new(Exit::Failure, "STDOUT", format!("stdout cannot be written: {error}"));
                Output::text().fail(&failure)
            }
            _ => ExitCode::SUCCESS,
        })
    }

    /// What is logged where NIWAKI_LOG does not say: the server tells of its work, everything else only of trouble.
    pub fn log_level(&self) -> &'static str {
        match self.verb {
            Verb::Serve(_) | Verb::JobChild { .. } => "info",
            _ => "warn",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
