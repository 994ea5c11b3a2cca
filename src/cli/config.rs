//! Where settings come from. From weak to strong: the defaults, `$XDG_CONFIG_HOME/niwaki/config.toml`, `niwaki.toml` here
//! (or the file that `--config` names), variables `NIWAKI_…`, flags. `niwaki config show --origin` says who won.
//!
//! A setting's name is its path in the file, `jobs.lease_seconds`; its variable is `NIWAKI_JOBS_LEASE_SECONDS`. Names that
//! nobody knows are refused: a limit with a typing error in it is no limit. Settings name the files of secrets, and
//! never hold one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{Config, ConfigError, FileFormat, Map, Source, Value, ValueKind};
use serde_json::json;

use super::args::{ConfigVerb, SettingsArgs};
use super::failure::{Exit, Failure};
use super::output::{Output, table};
use crate::settings::Settings;

/// The file in the folder where the program is started.
const HERE: &str = "niwaki.toml";
/// Variables that had their names before the settings had.
const ALIASES: [(&str, &str); 2] = [("NIWAKI_ALLOW_REMOTE", "auth.allow_remote"), ("NIWAKI_WORKERS", "jobs.workers")];
/// Names as alike as this are told as what was probably meant; 1 is the same.
const ALIKE: f64 = 0.75;

/// Settings, and what each of them was set by.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Who won: `default`, a file, a variable or a flag.
    pub origins: BTreeMap<String, String>,
}

/// Reads the settings that `args` and everything below them say.
pub fn load(args: &SettingsArgs) -> Result<Loaded, Failure> {
    let mut files = Vec::new();
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    check_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    files.extend(home.map(|home| home.join("niwaki/config.toml")).filter(|path| path.is_file()));
    match &args.config {
        Some(path) => files.push(path.clone()),
        None => files.extend(Some(PathBuf::from(HERE)).filter(|path| path.is_file())),
    }
    layered(&files, |name| std::env::var(name).ok(), &args.given())
}

/// `niwaki config`.
pub fn run(verb: &ConfigVerb, output: Output) -> Result<(), Failure> {
    let ConfigVerb::Show { origin, settings } = verb;
    let Loaded { settings, origins } = load(settings)?;
    let values = leaves(&settings);
    let rows = || {
        values.iter().map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            let mut row = vec![key.clone(), value];
            row.extend(origin.then(|| origins[key].clone()));
            row
        })
    };
    let header = &["setting", "value", "set by"][..if *origin { 3 } else { 2 }];
    let with_origin = || values.iter().map(|(key, value)| (key, json!({"value": value, "origin": origins[key]})));
    output.answer(
        || table(header, header, rows()),
        || if *origin { json!(BTreeMap::from_iter(with_origin())) } else { json!(settings) },
    );
    Ok(())
}

/// Every setting by its name.
pub fn leaves(settings: &Settings) -> BTreeMap<String, serde_json::Value> {
    fn walk(at: String, value: serde_json::Value, found: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    walk(if at.is_empty() { name } else { format!("{at}.{name}") }, value, found);
                }
            }
            value => {
                found.insert(at, value);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(String::new(), json!(settings), &mut found);
    found
}

/// The variable of a setting.
pub fn variable(key: &str) -> String {
    format!("NIWAKI_{}", key.to_uppercase().replace('.', "_"))
}

/// What one place says, by the names of settings, on its way into [`Settings`].
#[derive(Debug, Clone, Default)]
struct Layers(Map<String, Value>);

impl Source for Layers {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The files from weak to strong, then the environment, then flags (setting, value, flag).
fn layered(
    files: &[PathBuf],
    environment: impl Fn(&str) -> Option<String>,
    flags: &[(String, String, String)],
) -> Result<Loaded, Failure> {
    let known: Vec<String> = leaves(&Settings::default()).into_keys().collect();
    let mut given = Map::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|e| refused(format!("{}: {e}", path.display())))?;
        let origin = path.display().to_string();
        let parsed = config::File::from_str(&text, FileFormat::Toml).collect();
        let parsed = parsed.map_err(|error| refused(format!("{origin}: {error}")))?;
        flatten("", &origin, parsed, &known, &mut given)?;
    }
    for key in &known {
        let aliases = ALIASES.iter().filter(|(_, of)| of == key).map(|(alias, _)| alias.to_string());
        for name in aliases.chain([variable(key)]) {
            // An empty variable is how a shell unsets one.
            if let Some(value) = environment(&name).filter(|value| !value.is_empty()) {
                given.insert(key.clone(), Value::new(Some(&name), value));
            }
        }
    }
    for (key, value, flag) in flags {
        check_known(key, flag, &known)?;
        given.insert(key.clone(), Value::new(Some(flag), value.clone()));
    }
    let origin = |key: &String| given.get(key).and_then(Value::origin).unwrap_or("default").to_string();
    let origins: BTreeMap<String, String> = known.iter().map(|key| (key.clone(), origin(key))).collect();
    let settings = Config::builder().add_source(Layers(given)).build().and_then(Config::try_deserialize::<Settings>);
    let settings = settings.map_err(|error| {
        let message = error.to_string();
        let place = origins.iter().find(|(key, _)| message.contains(&format!("`{key}`"))).map(|(_, origin)| origin);
        match place {
            Some(place) if !message.contains(place) => refused(format!("{place}: {message}")),
            _ => refused(message),
        }
    })?;
    let violations = settings.violations();
    if !violations.is_empty() {
        return Err(Failure { violations: violations.clone(), ..refused(crate::error::list(&violations)) });
    }
    Ok(Loaded { settings, origins })
}

/// Refuses variables that begin like settings and are none: a limit with a typing error in it would be no limit. Others are
/// left alone; Kubernetes makes some of its own for a service of this name.
fn check_variables(names: impl Iterator<Item = String>) -> Result<(), Failure> {
    let known: Vec<String> = leaves(&Settings::default()).into_keys().collect();
    let sections: Vec<String> = known.iter().filter_map(|key| Some(variable(key.split_once('.')?.0) + "_")).collect();
    let settings: Vec<String> = known.iter().map(|key| variable(key)).collect();
    for name in names.filter(|name| sections.iter().any(|section| name.starts_with(section))) {
        if settings.contains(&name) {
            continue;
        }
        let alike = |setting: &&String| (strsim::jaro_winkler(setting, &name) * 1000.0) as u32;
        let nearest =
            settings.iter().max_by_key(alike).map(|nearest| format!("; {nearest} is one")).unwrap_or_default();
        return Err(refused(format!("the variable {name} is no setting{nearest}")));
    }
    Ok(())
}

/// The settings of a table and of those in it.
fn flatten(
    at: &str,
    origin: &str,
    table: Map<String, Value>,
    known: &[String],
    found: &mut Map<String, Value>,
) -> Result<(), Failure> {
    for (name, value) in table {
        let key = if at.is_empty() { name } else { format!("{at}.{name}") };
        match value.kind {
            ValueKind::Table(table) if known.iter().any(|k| k.starts_with(&format!("{key}."))) => {
                flatten(&key, origin, table, known, found)?;
            }
            kind => {
                check_known(&key, origin, known)?;
                found.insert(key, Value::new(Some(&origin.to_string()), kind));
            }
        }
    }
    Ok(())
}

fn check_known(key: &str, origin: &str, known: &[String]) -> Result<(), Failure> {
    if known.iter().any(|k| k == key) {
        return Ok(());
    }
    let likeness = |k: &String| strsim::jaro_winkler(k, key);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|k| likeness(k) >= ALIKE);
    let meant = nearest.map(|k| format!("; is {k} meant?")).unwrap_or_default();
    Err(refused(format!("{origin}: there is no setting {key:?}{meant}")).hint("niwaki config show lists all settings"))
}

fn refused(message: String) -> Failure {
    Failure::new(Exit::Settings, "SETTINGS", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_begin_like_settings_must_be_some() {
        let check = |name: &str| check_variables(std::iter::once(name.to_string()));
        for name in ["NIWAKI_TLS_CERTIFICATE", "NIWAKI_LOG", "NIWAKI_SERVICE_HOST", "NIWAKI_PORT_7700_TCP", "PATH"] {
            assert!(check(name).is_ok(), "{name}");
        }
        assert!(check("NIWAKI_TLS_CERTIFICAT").unwrap_err().message.contains("NIWAKI_TLS_CERTIFICATE is one"));
        assert!(check("NIWAKI_AUTH_KEY").is_err());
    }

    fn flags(given: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        given.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect()
    }

    fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_stronger_place_wins_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let weak = file(&folder, "weak.toml", "data = \"a\"\n[jobs]\nworkers = 2\nmax_losses = 4\nlease_seconds = 9\n");
        let strong = file(&folder, "strong.toml", "[jobs]\nworkers = 3\nmax_losses = 5\n");
        let environment = |name: &str| match name {
            "NIWAKI_JOBS_MAX_LOSSES" => Some("6".into()),
            "NIWAKI_ALLOW_REMOTE" => Some("true".into()),
            "NIWAKI_LISTEN" => Some(String::new()),
            _ => None,
        };
        let given = flags(&[("jobs.workers", "7", "--workers")]);
        let Loaded { settings, origins } = layered(&[weak.clone(), strong.clone()], environment, &given).unwrap();
        assert_eq!((settings.jobs.workers, origins["jobs.workers"].as_str()), (7, "--workers"));
        assert_eq!((settings.jobs.max_losses, origins["jobs.max_losses"].as_str()), (6, "NIWAKI_JOBS_MAX_LOSSES"));
        assert_eq!((settings.jobs.lease_seconds, &*origins["jobs.lease_seconds"]), (9, weak.to_str().unwrap()));
        assert_eq!((settings.auth.allow_remote, &*origins["auth.allow_remote"]), (true, "NIWAKI_ALLOW_REMOTE"));
        assert_eq!((settings.listen, origins["listen"].as_str()), (Settings::default().listen, "default"));
    }

    #[test]
    fn a_name_that_nobody_knows_is_refused_with_the_one_that_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        for (text, meant) in [
            ("[jobs]\nlease_second = 5\n", "jobs.lease_seconds"),
            ("lisen = \"x\"\n", "listen"),
            ("[job]\nworkers = 1\n", "jobs.workers"),
        ] {
            let path = file(&folder, "bad.toml", text);
            let failure = layered(&[path], |_| None, &[]).unwrap_err();
            assert_eq!((failure.exit, failure.reason.as_str()), (Exit::Settings, "SETTINGS"));
            assert!(failure.message.contains(meant) && failure.message.contains("bad.toml"), "{}", failure.message);
        }
        let failure = layered(&[], |_| None, &flags(&[("qqq", "1", "--set")])).unwrap_err();
        assert!(!failure.message.contains("meant"), "{}", failure.message);
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_its_name_and_place() {
        let folder = tempfile::tempdir().unwrap();
        for (text, words) in [
            ("listen = \"everywhere\"\n", ["listen", "bad.toml"]),
            ("[jobs]\nworkers = -1\n", ["jobs.workers", "bad.toml"]),
            ("[jobs]\nworkers = [1]\n", ["jobs.workers", "bad.toml"]),
            ("[calls]\nmax_streams = 0\n", ["calls.max_streams", "at least 1"]),
            ("[jobs\n", ["bad.toml", "TOML"]),
        ] {
            let path = file(&folder, "bad.toml", text);
            let failure = layered(&[path], |_| None, &[]).unwrap_err();
            assert!(words.iter().all(|word| failure.message.contains(word)), "{}", failure.message);
        }
    }

    #[test]
    fn every_setting_can_be_set_by_its_variable() {
        for (key, value) in leaves(&Settings::default()) {
            let text = match &value {
                serde_json::Value::String(text) if text.contains(':') => "127.0.0.1:1".into(),
                serde_json::Value::Number(_) => "77".into(),
                serde_json::Value::Bool(_) => "true".to_string(),
                _ => "elsewhere".into(),
            };
            let name = variable(&key);
            let loaded = layered(&[], |asked| (asked == name).then(|| text.clone()), &[]).unwrap();
            assert_ne!(leaves(&loaded.settings)[&key], value, "{name}");
            assert_eq!(loaded.origins[&key], name);
        }
    }
}
