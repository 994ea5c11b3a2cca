//! The command line: every verb, argument and help text. What they do is in the files beside this one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::verbs::{
    API_HELP, ApiVerb, DATASETS_HELP, DatasetsVerb, JOBS_HELP, JobsVerb, MODELS_HELP, ModelsVerb, SERVER_HELP,
    STORE_HELP, ServerVerb, StoreVerb, UPLOADS_HELP, UploadsVerb, named,
};

const AFTER_HELP: &str = "\
Data goes to stdout; progress, hints and errors go to stderr. With --json stdout is one JSON document, also for errors:
{\"error\": {\"code\", \"reason\", \"message\", \"violations\"}}.

Exit codes: 0 done, 1 failure, 2 wrong usage or invalid input, 3 the job failed or was cancelled, 4 no valid key or not
allowed, 5 not found, 7 the server cannot be reached (safe to retry), 78 the settings cannot be used, 130 interrupted.

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

const KEYS_HELP: &str = "\
Examples:
  niwaki keys create --file keys.toml --tenant vision --days 90
  niwaki keys create --file keys.toml --tenant vision --role reader
  niwaki keys ls --file keys.toml
  niwaki keys revoke --file keys.toml 3f9c21ab";

const CONFIG_HELP: &str = "\
Examples:
  niwaki config show
  niwaki config show --origin
  niwaki config show --config niwaki.toml --json";

/// Makes neural networks smaller and says honestly what that cost.
#[derive(Debug, Parser)]
#[command(name = "niwaki", version, after_help = AFTER_HELP, max_term_width = 120)]
pub struct Args {
    /// How a server is reached.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Prints one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How a server is reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct AccessArgs {
    /// The server that models, datasets, uploads, jobs and server talk to.
    #[arg(long, global = true, env = "NIWAKI_SERVER", default_value = "http://127.0.0.1:7700", value_name = "URL")]
    pub server: String,
    /// Whose resources these are; a key has one tenant.
    #[arg(long, global = true, env = "NIWAKI_TENANT", default_value = "default", value_name = "NAME")]
    pub tenant: String,
    /// A file with the API key in it; NIWAKI_KEY may hold the key itself.
    #[arg(long, global = true, env = "NIWAKI_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Certificates, PEM, of which one signed the server's: needed for https.
    #[arg(long, global = true, env = "NIWAKI_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A client certificate, PEM, for servers that ask for one.
    #[arg(long, global = true, env = "NIWAKI_CERT", value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, global = true, env = "NIWAKI_CERT_KEY", value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
}

impl AccessArgs {
    /// A server that asks for nothing.
    pub fn plain(server: String) -> Self {
        Self { server, tenant: "default".into(), key_file: None, ca: None, cert: None, cert_key: None }
    }
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
    /// Says what can be cut from a model, and what each part of it can do without.
    Analyze(AnalyzeArgs),
    /// Shows a model layer by layer.
    Inspect(InspectArgs),
    /// Writes a model in another format: safetensors with its graph, ONNX, or Python for PyTorch.
    Convert(ConvertArgs),
    /// Models on the server.
    #[command(subcommand, after_help = MODELS_HELP)]
    Models(ModelsVerb),
    /// Data sets on the server.
    #[command(subcommand, after_help = DATASETS_HELP)]
    Datasets(DatasetsVerb),
    /// Jobs on the server.
    #[command(subcommand, after_help = JOBS_HELP)]
    Jobs(JobsVerb),
    /// Files on their way to the server.
    #[command(subcommand, after_help = UPLOADS_HELP)]
    Uploads(UploadsVerb),
    /// The server itself.
    #[command(subcommand, after_help = SERVER_HELP)]
    Server(ServerVerb),
    /// Reads what lies in a folder that the server has prepared.
    #[command(hide = true)]
    ReadChild {
        /// The folder.
        folder: PathBuf,
    },
    /// The contract of the API.
    #[command(subcommand, after_help = API_HELP)]
    Api(ApiVerb),
    /// API keys: the file that `auth.keys` names.
    #[command(subcommand, after_help = KEYS_HELP)]
    Keys(KeysVerb),
    /// The data folder of a server, from outside.
    #[command(subcommand, after_help = STORE_HELP)]
    Store(StoreVerb),
    /// Settings of the server, and where they come from.
    #[command(subcommand, after_help = CONFIG_HELP)]
    Config(ConfigVerb),
    /// Times what niwaki computes with: products, convolutions, training steps, compression.
    Bench(BenchArgs),
    /// What this machine and the server are like, to paste into a report.
    #[command(after_help = "Examples:\n  niwaki doctor\n  niwaki doctor --data /var/lib/niwaki --json")]
    Doctor(SettingsArgs),
    /// Prints what makes a shell complete niwaki's command lines.
    #[command(after_help = "Examples:\n  niwaki completions bash > /etc/bash_completion.d/niwaki")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes manual pages into a folder.
    #[command(after_help = "Examples:\n  niwaki man /usr/local/share/man/man1")]
    Man {
        /// The folder.
        dir: PathBuf,
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
Without keys (auth.keys) nobody is asked who they are. The server then listens on this machine only, unless --allow-remote
says otherwise. The first line on stdout is the address; port 0 takes any free port.

Settings come from flags, from variables (NIWAKI_JOBS_LEASE_SECONDS for jobs.lease_seconds), from ./niwaki.toml or the file
of --config, from $XDG_CONFIG_HOME/niwaki/config.toml, in this order. `niwaki config show --origin` lists them all.

Examples:
  niwaki serve
  niwaki serve --listen 127.0.0.1:0 --data /var/lib/niwaki --workers 2
  niwaki serve --listen 0.0.0.0:7700 --set auth.keys=keys.toml --set tls.certificate=tls.pem --set tls.key=tls.key")]
pub struct ServeArgs {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Settings of the server, as far as a command line has them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SettingsArgs {
    /// A file with settings, instead of ./niwaki.toml.
    #[arg(long, env = "NIWAKI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on, also NIWAKI_LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Folder for everything the server keeps, also NIWAKI_DATA.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Jobs that run at the same time; they share the processors.
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub workers: Option<u16>,
    /// Allows an address that other machines can reach although nobody is asked for a key, also NIWAKI_ALLOW_REMOTE.
    #[arg(long)]
    pub allow_remote: bool,
    /// Any other setting, by its name. May be given repeatedly.
    #[arg(long, value_name = "NAME=VALUE", value_parser = named)]
    pub set: Vec<(String, String)>,
}

impl SettingsArgs {
    /// What was given, as (setting, value, flag).
    pub fn given(&self) -> Vec<(String, String, String)> {
        let mut given: Vec<_> =
            self.set.iter().map(|(key, value)| (key.clone(), value.clone(), "--set".to_string())).collect();
        let flags = [
            ("listen", self.listen.map(|listen| listen.to_string()), "--listen"),
            ("data", self.data.as_ref().map(|data| data.display().to_string()), "--data"),
            ("jobs.workers", self.workers.map(|workers| workers.to_string()), "--workers"),
            ("auth.allow_remote", self.allow_remote.then(|| "true".to_string()), "--allow-remote"),
        ];
        given.extend(flags.into_iter().filter_map(|(key, value, flag)| Some((key.into(), value?, flag.into()))));
        given
    }
}

/// `niwaki config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Shows every setting as a server that was started here and now would have it.
    Show {
        /// Also shows what set it: `default`, a file, a variable or a flag.
        #[arg(long)]
        origin: bool,
        /// Settings.
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// `niwaki keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Makes a key and prints it. It is shown this once: the file keeps its digest only.
    Create {
        /// The file; it is made if it is not there.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Whose resources the key opens: a-z, 0-9 and `-`.
        #[arg(long, default_value = "default", value_name = "NAME")]
        tenant: String,
        /// What it allows: a reader may get, list, watch and download.
        #[arg(long, value_enum, default_value_t = RoleArg::Writer)]
        role: RoleArg,
        /// It ends after so many days; without this never.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: Option<u32>,
    },
    /// Lists the keys, without what would open anything.
    #[command(alias = "list")]
    Ls {
        /// The file.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Takes a key out of the file; a server that runs knows it within a second.
    Revoke {
        /// The file.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// The key's id, as `ls` shows it.
        id: String,
    },
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleArg {
    /// Get, list, watch and download.
    Reader,
    /// Everything.
    Writer,
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
    /// The model: a .safetensors or an ONNX file.
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

/// `niwaki analyze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki analyze model.onnx
  niwaki analyze resnet20.onnx --data cifar10/ --recipe examples/recipes/resnet20-prune-channels.json
  niwaki analyze out/model.safetensors --data mnist/ --ratios 0.5,0.9 --samples 2000 --json")]
pub struct AnalyzeArgs {
    /// The model: a .safetensors or an ONNX file.
    pub model: PathBuf,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE")]
    pub graph: Option<String>,
    /// The data set, a folder or a file. Without it nothing is measured, and only costs are told.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// What is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
}

/// What is asked about a model.
#[derive(Debug, Clone, clap::Args)]
pub struct QuestionArgs {
    /// A recipe: its data section says how samples are read, its first `prune_channels` step is the plan to look at.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// The shares of its channels that each group loses in turn.
    #[arg(long, value_delimiter = ',', value_name = "RATIO,..")]
    pub ratios: Vec<f64>,
    /// Validation samples to measure on, at most.
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    pub samples: u32,
}

/// `niwaki convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki convert model.onnx model.safetensors
  niwaki convert model.safetensors model.onnx
  niwaki convert model.safetensors model.onnx --external
  niwaki convert model.onnx model.py
  niwaki convert pytorch.safetensors model.onnx --graph lenet5")]
pub struct ConvertArgs {
    /// The model: a .safetensors or an ONNX file.
    #[arg(value_name = "IN")]
    pub model: PathBuf,
    /// The file to write; its name says the format: .safetensors, .onnx, .py for PyTorch (with a .safetensors file of the
    /// same name beside it), or .json for the graph without weights.
    pub out: PathBuf,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE")]
    pub graph: Option<String>,
    /// Writes the weights of an ONNX model into a .safetensors file of the same name beside it, which both formats read.
    #[arg(long)]
    pub external: bool,
}

/// `niwaki inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  niwaki inspect model.safetensors
  niwaki inspect pytorch.safetensors --graph lenet5
  niwaki inspect model.safetensors --graph-json > graph.json
  niwaki inspect model.safetensors --svg=model.svg
  niwaki inspect model.safetensors --dot | dot -Tpdf > model.pdf")]
pub struct InspectArgs {
    /// The model: a .safetensors or an ONNX file.
    pub model: PathBuf,
    /// The model's graph, where the file has none: a built-in network or a file with graph JSON.
    #[arg(long, value_name = "PRESET|FILE")]
    pub graph: Option<String>,
    /// Prints the graph in niwaki's JSON form, to edit and to pass as --graph.
    #[arg(long, conflicts_with_all = ["svg", "dot"])]
    pub graph_json: bool,
    /// Draws the network, for any browser: into a file, or to stdout.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", conflicts_with = "dot")]
    pub svg: Option<PathBuf>,
    /// Prints the network in Graphviz's language: into a file, or to stdout.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub dot: Option<PathBuf>,
}

/// `niwaki bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each case runs twice and then at least five times and for a second or two, the large ones three times; ms is the median.
With --json each case is a document on a line of its own: {\"name\", \"ms\", \"min\", \"items_per_s\"}.

RAYON_NUM_THREADS chooses the number of threads, NIWAKI_INSTRUCTIONS (avx512, avx2 or portable) the instructions.
benches/versus_torch.py compares with PyTorch.

Examples:
  niwaki bench
  niwaki bench --filter conv_fwd_bwd --filter train
  NIWAKI_INSTRUCTIONS=avx2 niwaki bench --filter peak --json
  niwaki bench --list")]
pub struct BenchArgs {
    /// Cases whose names begin so, instead of all. May be given repeatedly.
    #[arg(long, value_name = "PREFIX")]
    pub filter: Vec<String>,
    /// Prints the names of the cases and measures none.
    #[arg(long)]
    pub list: bool,
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
