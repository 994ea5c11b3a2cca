//! The files of a front, beside the model. They are made anew of the network before the search and the cuts: so a run that
//! goes on from a checkpoint writes them too, and the checkpoint holds one network and not many.

use std::path::Path;

use super::genes::Genes;
use super::{EvolveChannelsStep, choose};
use crate::digest::Digest;
use crate::format::native;
use crate::graph::dims::Dims;
use crate::recipe::StepKind;
use crate::recipe::checkpoint::Evolved;
use crate::recipe::error::RecipeError;
use crate::recipe::files::{self, Staged};
use crate::recipe::run::Course;
use crate::report::EmittedFile;

/// The name of the file of the member at a place of a front: `front-01.safetensors` is the cheapest.
pub(super) fn file_name(place: usize) -> String {
    format!("front-{:02}.safetensors", place + 1)
}

impl Course<'_, '_> {
    /// Writes the networks of a front. They do not have their names yet.
    pub(in crate::recipe) fn emit_front(
        &mut self,
        evolved: &Evolved,
        out: &Path,
    ) -> Result<Vec<(EmittedFile, Staged)>, RecipeError> {
        // What is random in it is that of its step.
        let last = std::mem::replace(&mut self.step, evolved.step);
        let StepKind::EvolveChannels(step) = &self.steps[evolved.step as usize - 1].step.kind else {
            return Ok(Vec::new());
        };
        let written = self.write_front(evolved, step, out);
        self.step = last;
        written
    }

    fn write_front(
        &self,
        evolved: &Evolved,
        step: &EvolveChannelsStep,
        out: &Path,
    ) -> Result<Vec<(EmittedFile, Staged)>, RecipeError> {
        let graph = &evolved.graph;
        let dims = Dims::of(graph);
        let genes = Genes::new(graph, &dims, step).map_err(|source| self.failed(source))?;
        let (cutter, _) = self.cutter(graph, &dims, &genes, step)?;
        let mut files = Vec::new();
        for (place, cut) in evolved.cuts.iter().enumerate() {
            if (self.run.cancelled)() {
                return Err(RecipeError::Cancelled);
            }
            let bytes = native::write(&self.finished(cutter.cut(cut), step)?, &self.metadata())?;
            let (name, digest) = (file_name(place), Digest::of(&bytes).to_string());
            let path = out.join(&name);
            let staged = Staged::write(&path, &bytes).map_err(|source| RecipeError::io(&path, source))?;
            files.push((EmittedFile { name, bytes: bytes.len() as u64, digest }, staged));
        }
        Ok(files)
    }
}

/// Removes what an earlier run left under the names of a front.
pub(in crate::recipe) fn remove(out: &Path) -> Result<(), RecipeError> {
    (0..choose::MOST)
        .map(|place| out.join(file_name(place)))
        .try_for_each(|path| files::remove(&path).map_err(|source| RecipeError::io(&path, source)))
}
