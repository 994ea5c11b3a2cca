//! The command line's verbs on what a server has.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::args::QuestionArgs;

/// The end of the help.
pub(super) const MODELS_HELP: &str = "\
Examples:
  niwaki models put model.safetensors
  niwaki models put lenet.safetensors --graph lenet-300-100 --name 'LeNet, dense'
  niwaki models ls
  niwaki models ls --filter 'state = READY'
  niwaki models get MODEL --json
  niwaki models analyze MODEL --dataset DATASET --recipe recipe.json
  niwaki models rm MODEL";

/// The end of the help.
pub(super) const DATASETS_HELP: &str = "\
Examples:
  niwaki datasets put mnist/
  niwaki datasets put digits.safetensors --name digits
  niwaki datasets ls
  niwaki datasets rm DATASET";

/// The end of the help.
pub(super) const JOBS_HELP: &str = "\
Examples:
  niwaki jobs create recipe.json --model MODEL --dataset DATASET --watch
  niwaki jobs create recipe.json --dataset DATASET --priority 10 --time-limit 2h
  niwaki jobs ls --filter 'state = RUNNING'
  niwaki jobs watch JOB
  niwaki jobs wait JOB && niwaki jobs download JOB --out out/
  niwaki jobs cancel JOB
  niwaki jobs retry JOB --watch
  niwaki jobs rm JOB";

/// The end of the help.
pub(super) const SERVER_HELP: &str = "\
Examples:
  niwaki server info
  niwaki server health
  niwaki --server http://127.0.0.1:7701 server info --json";

/// The end of the help.
pub(super) const UPLOADS_HELP: &str = "\
An upload is made by `models put` and `datasets put`; one that broke off goes on when the same file is put again.

Examples:
  niwaki uploads ls --filter 'state = OPEN'
  niwaki uploads get UPLOAD
  niwaki uploads rm UPLOAD";

/// The end of the help.
pub(super) const STORE_HELP: &str = "\
A backup may be taken while the server runs. To restore one, start a server on it.

Examples:
  niwaki store backup --data /var/lib/niwaki /backup/niwaki
  niwaki store check --data /backup/niwaki";

/// The end of the help.
pub(super) const API_HELP: &str = "\
Examples:
  niwaki api proto > niwaki.proto.txt";

/// `NAME=VALUE`.
pub(super) fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("NAME=VALUE is expected".to_string()),
    }
}

/// `niwaki models`.
#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// Uploads a model and prints its id.
    Put {
        /// The ONNX or `.safetensors` file; files beside it that an ONNX file names go with it.
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
    Ls {
        /// Only those that meet these conditions, joined by AND: `state = READY AND create_time > "2026-01-31T00:00:00Z"`.
        #[arg(long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Shows a model.
    Get {
        /// Its id.
        model: String,
    },
    /// Says what can be cut from a model, and what each part of it can do without.
    Analyze {
        /// Its id.
        model: String,
        /// The data set to measure on; without it only costs are told.
        #[arg(long)]
        dataset: Option<String>,
        /// What is asked.
        #[command(flatten)]
        question: QuestionArgs,
    },
    /// Removes a model.
    #[command(alias = "delete")]
    Rm {
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
    Ls {
        /// Only those that meet these conditions, joined by AND: `state = READY AND create_time > "2026-01-31T00:00:00Z"`.
        #[arg(long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Shows a data set.
    Get {
        /// Its id.
        dataset: String,
    },
    /// Removes a data set.
    #[command(alias = "delete")]
    Rm {
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
        /// Which of the waiting jobs come first: those with the higher number, from -100 to 100.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
        priority: i32,
        /// How long the job may run: 90s, 30m, 2h or 1d.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        time_limit: Option<Duration>,
        /// Follows the job to its end.
        #[arg(long)]
        watch: bool,
        /// Checks everything and queues nothing.
        #[arg(long, conflicts_with = "watch")]
        validate_only: bool,
    },
    /// Lists the jobs, newest first.
    #[command(alias = "list")]
    Ls {
        /// Only those that meet these conditions, joined by AND: `state = RUNNING AND create_time > "2026-01-31T00:00:00Z"`.
        #[arg(long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
        filter: String,
    },
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
    /// Waits for a job to end, without a word; the exit code tells how it ended.
    Wait {
        /// Its id.
        job: String,
    },
    /// Queues a new job with the recipe, the model and the data set of another.
    Retry {
        /// The other's id.
        job: String,
        /// Follows the new job to its end.
        #[arg(long)]
        watch: bool,
    },
    /// Removes a job that has ended, with what it has produced.
    #[command(alias = "delete")]
    Rm {
        /// Its id.
        job: String,
    },
    /// Asks a job to stop.
    Cancel {
        /// Its id.
        job: String,
    },
    /// Downloads what a job has produced.
    #[command(alias = "fetch")]
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
    /// Asks whether the server takes calls; needs no key. The exit code is the answer.
    Health,
}

/// `niwaki uploads`.
#[derive(Debug, Subcommand)]
pub enum UploadsVerb {
    /// Lists the uploads, newest first.
    #[command(alias = "list")]
    Ls {
        /// Only those that meet these conditions, joined by AND: `state = OPEN AND create_time > "2026-01-31T00:00:00Z"`.
        #[arg(long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Shows an upload.
    Get {
        /// Its id.
        upload: String,
    },
    /// Removes an upload; models and data sets that were made of it stay.
    #[command(alias = "delete")]
    Rm {
        /// Its id.
        upload: String,
    },
}

/// `niwaki api`.
#[derive(Debug, Subcommand)]
pub enum ApiVerb {
    /// Prints the API's `.proto` files, one after the other.
    Proto,
}

/// `90s`, `30m`, `2h`, `1d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and one of s, m, h, d is expected".to_string();
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let n: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    n.checked_mul(seconds).filter(|n| *n > 0).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for text in ["", "s", "90", "-1s", "0s", "1.5h", "2w", "99999999999999999999d", "\u{e4}"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

/// `niwaki store`.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Reads everything in a data folder that no server is at, and says what is wrong.
    Check {
        /// The data folder.
        #[arg(long, env = "NIWAKI_DATA", default_value = "niwaki-data", value_name = "DIR")]
        data: PathBuf,
    },
    /// Copies a data folder. A folder with an earlier backup is brought up to date.
    Backup {
        /// The data folder.
        #[arg(long, env = "NIWAKI_DATA", default_value = "niwaki-data", value_name = "DIR")]
        data: PathBuf,
        /// Where to.
        to: PathBuf,
    },
}
