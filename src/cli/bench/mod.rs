//! `niwaki bench`: how fast this machine computes what niwaki computes with.
//!
//! A case is a name and some work; `benches/torch_cases.py` has the same work under the same names for PyTorch.
//!
//! - [`machine`] what bounds everything: multiplications and memory
//! - [`matmul`], [`conv`] kernels
//! - [`network`] training steps and inference
//! - [`compression`] pruning, half precision, clusters, singular values

mod case;
mod compression;
mod conv;
mod machine;
mod matmul;
mod measure;
mod network;
mod numbers;

use std::fmt::Display;
use std::sync::atomic::AtomicBool;

use niwaki_kernels::simd::Path;
use serde_json::{Value, json};

use super::args::BenchArgs;
use super::failure::{Exit, Failure};
use super::interruptible;
use super::output::{Output, table};
use super::progress::Meter;
use crate::exec;
use crate::recipe::run::Progress;
use case::{Case, Remark};
use measure::Timing;

/// Measures the cases that were asked for and shows them.
pub fn run(args: &BenchArgs, output: Output) -> Result<(), Failure> {
    let cases = chosen(all(), &args.filter)?;
    if args.list {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        output.answer(|| names.join("\n"), || json!(names));
        return Ok(());
    }
    let (head, results) = interruptible(move |pressed| {
        let threads = match exec::threads() {
            1 => "one thread".into(),
            threads => format!("{threads} threads"),
        };
        let head = format!("{} instructions, {threads}", Path::chosen().name());
        if output.is_json() {
            output.note(&head);
        }
        let mut meter = Meter::new(output);
        let mut results = Vec::new();
        for (done, case) in cases.iter().enumerate() {
            let (done, total) = (done as u64, cases.len() as u64);
            meter.update(&Progress { phase: case.name.clone(), done, total, ..Progress::default() });
            let result = Measured::of(case, pressed)?;
            if output.is_json() {
                output.print(result.to_json().to_string());
            }
            results.push(result);
        }
        meter.finish();
        Ok((head, results))
    })?;
    if !output.is_json() {
        let header = ["case", "ms", "least ms", "runs", "rate", "remark"];
        output.print(format!("{head}\n\n{}", table(&header, &["remark"], results.iter().map(Measured::row))));
    }
    Ok(())
}

/// All cases, in the order in which they are measured.
fn all() -> Vec<Case> {
    [machine::cases(), matmul::cases(), conv::cases(), network::cases(), compression::cases()].concat()
}

/// The cases whose names begin with one of `prefixes`; all where there is none.
fn chosen(mut cases: Vec<Case>, prefixes: &[String]) -> Result<Vec<Case>, Failure> {
    let matches = |prefix: &String| cases.iter().any(|case| case.name.starts_with(prefix));
    let useless: Vec<&str> = prefixes.iter().filter(|prefix| !matches(prefix)).map(String::as_str).collect();
    if !useless.is_empty() {
        let message = format!("no case begins with {}", useless.join(" or "));
        return Err(Failure::new(Exit::Invalid, "NO_CASE", message).hint("niwaki bench --list"));
    }
    cases.retain(|case| prefixes.is_empty() || prefixes.iter().any(|prefix| case.name.starts_with(prefix)));
    Ok(cases)
}

/// A case and how long it took.
struct Measured {
    name: String,
    timing: Timing,
    items: Option<(f64, &'static str)>,
    remark: Option<Remark>,
}

impl Measured {
    /// Makes the case's work ready and measures it.
    fn of(case: &Case, stop: &AtomicBool) -> Result<Self, Failure> {
        let mut work = case.prepare().map_err(|failure| failure.within(&case.name))?;
        let timing = measure::measure(&mut *work, case.rule, stop)?;
        Ok(Self { name: case.name.clone(), timing, items: case.items, remark: work.remark() })
    }

    fn row(&self) -> Vec<String> {
        let ms = |seconds: f64| format!("{:.3}", 1e3 * seconds);
        let rate = self.items.map(|(items, unit)| rate(items / self.timing.median, unit)).unwrap_or_default();
        let remark = self.remark.as_ref().map(|remark| format!("{} {}", remark.what, plain(&remark.value)));
        vec![
            self.name.clone(),
            ms(self.timing.median),
            ms(self.timing.least),
            self.timing.runs.to_string(),
            rate,
            remark.unwrap_or_default(),
        ]
    }

    fn to_json(&self) -> Value {
        let mut fields = json!({
            "name": self.name,
            "ms": 1e3 * self.timing.median,
            "min": 1e3 * self.timing.least,
            "items_per_s": self.items.map(|(items, _)| items / self.timing.median),
        });
        if let Some(remark) = &self.remark {
            fields[remark.what] = remark.value.clone();
        }
        fields
    }
}

/// What a value is for people: no quotes around words.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// A rate with three digits or a few more: `24.1 GB/s`, `12.3 k samples/s`.
fn rate(per_second: f64, unit: &str) -> String {
    let steps = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = steps.into_iter().find(|(scale, _)| per_second >= *scale).unwrap_or((1.0, ""));
    let number = per_second / scale;
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    let gap = if unit.len() > 4 { " " } else { "" };
    format!("{number:.digits$} {prefix}{gap}{unit}/s").replace("  ", " ")
}

/// Work of our own making that cannot be done: a mistake in this program.
fn defect(error: impl Display) -> Failure {
    Failure::new(Exit::Failure, "BENCH", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_the_beginning_of_a_name() {
        let names = |prefixes: &[&str]| -> Vec<String> {
            let prefixes: Vec<String> = prefixes.iter().map(|p| p.to_string()).collect();
            chosen(all(), &prefixes).unwrap().into_iter().map(|case| case.name).collect()
        };
        assert_eq!(names(&["svd_"]), ["svd_1024x1024", "svd_4096x1024"]);
        assert_eq!(names(&["f16", "kmeans"]), ["f16_100m_reused", "kmeans_10m"]);
        assert_eq!(names(&[]).len(), all().len());
        let failure = chosen(all(), &["_svd".into()]).unwrap_err();
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::Invalid, "NO_CASE"));
    }

    #[test]
    fn a_whole_name_is_a_filter_for_that_case_alone() {
        let names: Vec<String> = all().into_iter().map(|case| case.name).collect();
        for name in &names {
            assert_eq!(names.iter().filter(|other| other.starts_with(name)).count(), 1, "{name}");
        }
    }

    #[test]
    fn every_small_case_can_be_prepared_and_done_twice() {
        let small = ["matmul_64", "matmul_128", "conv_", "train_mlp", "train_lenet5", "infer_mlp", "infer_lenet5"];
        for case in chosen(all(), &small.map(String::from)).unwrap() {
            let mut work = case.prepare().unwrap();
            work.step().unwrap();
            work.step().unwrap();
        }
    }

    #[test]
    fn a_result_has_the_fields_that_are_compared() {
        let timing = Timing { median: 0.002, least: 0.001, runs: 5 };
        let remark = Remark { what: "mse", value: json!(0.25) };
        let mut measured = Measured { name: "a".into(), timing, items: Some((128.0, "samples")), remark: Some(remark) };
        let expected = json!({"name": "a", "ms": 2.0, "min": 1.0, "items_per_s": 64_000.0, "mse": 0.25});
        assert_eq!(measured.to_json(), expected);
        assert_eq!(measured.row(), ["a", "2.000", "1.000", "5", "64.0 k samples/s", "mse 0.25"]);
        (measured.items, measured.remark) = (None, None);
        assert_eq!(measured.to_json()["items_per_s"], Value::Null);
        assert_eq!(measured.row()[4..], ["", ""]);
    }

    #[test]
    fn rates_have_a_prefix_and_three_digits() {
        let rates = [(2.51e11, "FLOP"), (9.876e9, "B"), (43.21, "samples"), (1.5e8, "numbers")];
        let texts = rates.map(|(per_second, unit)| rate(per_second, unit));
        assert_eq!(texts, ["251 GFLOP/s", "9.88 GB/s", "43.2 samples/s", "150 M numbers/s"]);
    }
}
