//! How answers look: data on stdout (text or one JSON document), everything else on stderr.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::failure::{Exit, Failure};
use crate::report::Metrics;

/// Why an answer of this program did not reach stdout; only the first such error counts.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Where answers go and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Output {
    /// Text for people.
    pub fn text() -> Self {
        Self { form: Form::Text }
    }

    /// One JSON document.
    pub fn json() -> Self {
        Self { form: Form::Json }
    }

    /// The answer, in the form that was asked for. Whether it could be written is told by [`Output::written`].
    pub fn answer(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        self.print(match self.form {
            Form::Text => text(),
            Form::Json => format!("{:#}", json()),
        });
    }

    /// Whether JSON is asked for.
    pub fn is_json(self) -> bool {
        self.form == Form::Json
    }

    /// A part of the answer that is ready before the others, in the form that was asked for.
    pub fn print(self, mut answer: String) {
        if self.form == Form::Text {
            answer = plain(&answer);
        }
        if !answer.ends_with('\n') {
            answer.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush()) {
            // A reader that has gone away (`| head`) is no error.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = UNWRITTEN.set(error.to_string());
            }
            _ => {}
        }
    }

    /// Whether all answers have been written: work whose result is lost has failed.
    pub fn written(self) -> Result<(), Failure> {
        match UNWRITTEN.get() {
            None => Ok(()),
            Some(error) => Err(Failure::new(Exit::Failure, "STDOUT", format!("stdout cannot be written: {error}"))),
        }
    }

    /// Says that a resource has been removed.
    pub fn gone(self, name: &str) {
        self.answer(|| format!("{name} is removed"), || serde_json::json!({"removed": name}));
    }

    /// A remark for people.
    pub fn note(self, text: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr(), "{}", plain(text.as_ref()));
    }

    /// What one may do next, commands that can be copied.
    pub fn next<const N: usize>(self, commands: [String; N]) {
        for (i, command) in commands.iter().enumerate() {
            self.note(format!("{} {command}", if i == 0 { "Next:" } else { "     " }));
        }
    }

    /// Says what went wrong and gives the exit code.
    pub fn fail(self, failure: &Failure) -> ExitCode {
        if self.form == Form::Json {
            self.answer(String::new, || failure.to_json());
        }
        self.note(format!("error[{}]: {}", failure.reason, failure.message.trim_end()));
        for violation in failure.violations.iter().filter(|v| !failure.message.contains(&v.description)) {
            self.note(format!("  {}: {}", violation.field, violation.description));
        }
        if let Some(hint) = &failure.hint {
            self.note(format!("hint: {hint}"));
        }
        failure.exit.into()
    }

    /// Whether people look at stderr, so that progress may be drawn.
    pub fn draws(self) -> bool {
        std::io::stderr().is_terminal()
    }
}

/// The word for a state, `STATE_READY`, that people read: `ready`.
pub fn state(name: &str) -> String {
    name.trim_start_matches("STATE_").to_lowercase()
}

/// A table: the first column is flush left, those named by `left` too, all others are numbers and flush right.
pub fn table(header: &[&str], left: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    // A name with a line break stays on its line.
    let rows = rows.into_iter().map(|row| row.into_iter().map(|cell| cell.replace(char::is_control, " ")));
    table.add_rows(rows);
    for (i, name) in header.iter().enumerate() {
        let flush_left = i == 0 || left.contains(name);
        if let Some(column) = table.column_mut(i) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if flush_left { CellAlignment::Left } else { CellAlignment::Right });
        }
    }
    table.trim_fmt() + "\n"
}

/// Two models side by side, with what the second costs and saves.
pub fn comparison(baseline: &Metrics, result: &Metrics, delta: f64, interval: [f64; 2], samples: u64) -> String {
    let [low, high] = interval;
    let accuracy = format!("{} [{}, {}]", points(delta), points(low), points(high));
    let bytes = |n: u64| format!("{} B", grouped(n));
    let zeros = |m: &Metrics| percent(1.0 - m.nonzero_params as f64 / m.params.max(1) as f64);
    let row = |name: &str, of: &dyn Fn(&Metrics) -> String, change: String| {
        vec![name.to_string(), of(baseline), of(result), change]
    };
    let text = table(
        &["", "baseline", "result", "change"],
        &["change"],
        [
            row(
                "file",
                &|m| bytes(m.bytes),
                times(baseline.bytes as f64 / result.bytes as f64, 0.01, ["smaller", "larger"]),
            ),
            row("accuracy", &|m| percent(m.accuracy), accuracy),
            row("loss", &|m| format!("{:.4}", m.loss), format!("{:+.4}", result.loss - baseline.loss)),
            row("parameters", &|m| grouped(m.params), String::new()),
            row("not zero", &|m| grouped(m.nonzero_params), format!("{} are zeros", zeros(result))),
            row("MACs", &|m| grouped(m.macs), String::new()),
            row(
                "latency p50",
                &|m| format!("{:.3} ms", m.latency_ms.p50),
                times(baseline.latency_ms.p50 / result.latency_ms.p50, 0.1, ["faster", "slower"]),
            ),
        ],
    );
    format!("{text}Accuracy on {} test samples; in brackets the change's 95 % interval.\n", grouped(samples))
}

/// A share as a percentage: `98.21 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A difference of shares in points: `-0.12 pt`.
pub fn points(delta: f64) -> String {
    format!("{:+.2} pt", 100.0 * delta)
}

/// A number with its thousands apart: `266,610`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A shape as people write it: `1x28x28`.
pub fn shape<T: ToString>(dims: &[T]) -> String {
    dims.iter().map(T::to_string).collect::<Vec<_>>().join("x")
}

/// The text without control characters other than line breaks: names that others chose must not steer a terminal.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// How many times less or more: `2.01x smaller`. A change by less than the share `noise` is none.
fn times(ratio: f64, noise: f64, [less, more]: [&str; 2]) -> String {
    match ratio {
        r if !r.is_finite() || r <= 0.0 => String::new(),
        r if (r - 1.0).abs() < noise => "same".into(),
        r if r > 1.0 => format!("{r:.2}x {less}"),
        r => format!("{:.2}x {more}", 1.0 / r),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;

    #[test]
    fn a_comparison_shows_what_was_lost_and_what_was_gained() {
        let baseline = Metrics {
            accuracy: 0.98,
            loss: 0.06,
            bytes: 1_068_000,
            params: 266_610,
            nonzero_params: 266_610,
            macs: 266_200,
            latency_ms: Latency { p50: 0.05, p95: 0.06 },
        };
        let result = Metrics { accuracy: 0.979, bytes: 534_000, nonzero_params: 26_661, ..baseline.clone() };
        let text = comparison(&baseline, &result, -0.001, [-0.003, 0.001], 10_000);
        expect_test::expect![[r#"
                            baseline     result  change
            file         1,068,000 B  534,000 B  2.00x smaller
            accuracy         98.00 %    97.90 %  -0.10 pt [-0.30 pt, +0.10 pt]
            loss              0.0600     0.0600  +0.0000
            parameters       266,610    266,610
            not zero         266,610     26,661  90.00 % are zeros
            MACs             266,200    266,200
            latency p50     0.050 ms   0.050 ms  same
            Accuracy on 10,000 test samples; in brackets the change's 95 % interval.
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn names_cannot_steer_a_terminal_or_break_a_table() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
        assert_eq!(table(&["id", "name"], &["name"], [vec!["1".into(), "a\nb\rc".into()]]), "id  name\n1   a b c\n");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 266_610, 1_234_567].map(grouped), ["0", "999", "1,000", "266,610", "1,234,567"]);
    }
}
