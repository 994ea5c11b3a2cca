//! Progress on stderr: bars where people look, a line now and then where a file or a pipe does.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use crate::recipe::run::Progress;

/// Where nobody looks, a phase that goes on says so once in this time.
const SPARSE: Duration = Duration::from_secs(10);

/// What is drawn of a phase.
const PHASE: &str = "{spinner} {prefix} {msg} {elapsed}";
/// What is drawn of a phase whose total is known.
const COUNT: &str = "{spinner} {prefix} {wide_bar} {pos}/{len} {msg} {elapsed}";

/// The progress of a recipe or a job.
pub struct Meter {
    output: Output,
    bar: Option<ProgressBar>,
    /// The step, its phase, and whether a total is known.
    phase: (u32, String, bool),
    said: Instant,
    silent: bool,
}

impl Meter {
    /// A meter that shows nothing yet.
    pub fn new(output: Output) -> Self {
        let bar = output.draws().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(PHASE));
            bar
        });
        Self { output, bar, phase: (0, String::new(), false), said: Instant::now(), silent: false }
    }

    /// A meter that never says anything.
    pub fn silent(output: Output) -> Self {
        Self { output, bar: None, phase: (0, String::new(), false), said: Instant::now(), silent: true }
    }

    /// Shows where the work stands.
    pub fn update(&mut self, progress: &Progress) {
        // A job that waits in the queue has no phase yet.
        if progress.phase.is_empty() || self.silent {
            return;
        }
        let phase = (progress.step, progress.phase.clone(), progress.total > 0);
        let is_new = phase != self.phase;
        self.phase = phase;
        match &self.bar {
            Some(bar) => {
                if is_new {
                    bar.reset_elapsed();
                    bar.enable_steady_tick(Duration::from_millis(200));
                    bar.set_style(style(if progress.total == 0 { PHASE } else { COUNT }));
                }
                bar.set_prefix(place(progress));
                bar.set_message(figures(progress));
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            None if is_new || self.said.elapsed() >= SPARSE => {
                self.said = Instant::now();
                self.output.note(line(progress));
            }
            None => {}
        }
    }

    /// Says something above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            _ if self.silent => {}
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The progress of a file; nothing is shown where people do not look.
#[derive(Clone)]
pub struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    /// Begins with a label for people and the file's size.
    pub fn start(label: &str, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        bar.set_style(style("{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
        bar.set_prefix(label.to_string());
        Self { bar }
    }

    /// Says something above the bar, where people look.
    pub fn say(&self, text: &str) {
        self.bar.println(text);
    }

    /// So many bytes have gone through.
    pub fn at(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are valid").progress_chars("█▉▊▋▌▍▎▏ ")
}

/// `step 2/3 train`, or the phase alone before the first step.
fn place(progress: &Progress) -> String {
    match progress.step {
        0 => progress.phase.clone(),
        step => format!("step {step}/{} {}", progress.step_count, progress.phase),
    }
}

fn figures(progress: &Progress) -> String {
    let mut figures = Vec::new();
    if let Some(loss) = progress.loss {
        figures.push(format!("loss {loss:.4}"));
    }
    if let Some(accuracy) = progress.validation_accuracy {
        figures.push(format!("validation {:.2} %", 100.0 * accuracy));
    }
    figures.join("  ")
}

fn line(progress: &Progress) -> String {
    let count = match progress.total {
        0 => String::new(),
        total => format!("{}/{total}", progress.done),
    };
    [place(progress), count, figures(progress)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_the_step_the_count_and_the_latest_figures() {
        let progress = Progress {
            phase: "train".into(),
            step: 2,
            step_count: 3,
            done: 4,
            total: 12,
            loss: Some(0.04125),
            validation_accuracy: Some(0.9812),
        };
        assert_eq!(line(&progress), "step 2/3 train  4/12  loss 0.0413  validation 98.12 %");
        assert_eq!(line(&Progress { phase: "measure".into(), ..Progress::default() }), "measure");
    }
}
