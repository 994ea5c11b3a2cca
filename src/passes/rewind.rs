//! Sets the parameters of a network back to what they were: rewinding (Frankle and Carbin 2019, "The Lottery Ticket
//! Hypothesis"). What is pruned stays pruned.

use super::{Pass, PassError};
use crate::graph::{Graph, GraphEdit, Param};
use crate::tensor::TensorData;

/// Sets all parameters but the fixed ones to those that a network has under the same names, running statistics among them,
/// each in the number format that it has now. Masks are kept, and what they mask is zero.
pub struct Rewind<'g> {
    /// The network as it was.
    pub to: &'g Graph,
}

impl Rewind<'_> {
    /// What keeps `graph` from being set back, as the error that [`Pass::apply`] would give.
    pub fn check(&self, graph: &Graph) -> Result<(), PassError> {
        let other = |name: &str, problem: String| Err(PassError::OtherParams { name: name.to_string(), problem });
        for param in graph.params().iter().filter(|param| !param.fixed) {
            match self.then(&param.name) {
                None => return other(&param.name, "it was not there".into()),
                Some(then) if then.data.shape() != param.data.shape() => {
                    let (was, is) = (then.data.shape(), param.data.shape());
                    return other(&param.name, format!("its shape was {was:?} and is {is:?}"));
                }
                Some(_) => {}
            }
        }
        let is_there = |then: &&Param| graph.params().iter().any(|param| param.name == then.name);
        match self.to.params().iter().filter(|then| !then.fixed).find(|then| !is_there(then)) {
            Some(then) => other(&then.name, "it is not there any more".into()),
            None => Ok(()),
        }
    }

    fn then(&self, name: &str) -> Option<&Param> {
        self.to.params().iter().find(|param| param.name == name && !param.fixed)
    }
}

impl Pass for Rewind<'_> {
    fn name(&self) -> &'static str {
        "rewind"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        self.check(edit.graph())?;
        let learned: Vec<_> = edit.graph().param_ids().filter(|id| !edit.graph().param(*id).fixed).collect();
        for id in learned {
            let Param { name, data, mask, .. } = edit.graph().param(id);
            let Some(then) = self.then(name) else { continue };
            let mut values = then.data.to_f32()?;
            for (value, keep) in values.iter_mut().zip(mask.iter().flat_map(|mask| mask.iter())) {
                *value = if *keep { *value } else { 0.0 };
            }
            let data = TensorData::from_f32(data.shape().to_vec(), &values)?.to_float(data.dtype())?;
            edit.set_param(id, data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::init::{self, Init};
    use crate::passes::apply;
    use crate::passes::prune::{Amount, PruneWeights, Scope};

    fn network(hidden: usize) -> Graph {
        let mut graph = GraphBuilder::new("net", &[4]).linear("fc1", hidden).linear("fc2", 2).build().unwrap();
        init::initialise(&mut graph, Init::He, 1).unwrap();
        graph
    }

    #[test]
    fn parameters_become_what_they_were_and_masks_stay() {
        let then = network(6);
        let mut now = network(6);
        init::initialise(&mut now, Init::He, 2).unwrap();
        let half = PruneWeights { amount: Amount::Sparsity(0.5), scope: Scope::Global, ignored: vec![], scores: None };
        apply(&half, &mut now).unwrap();
        let pruned = now.clone();
        apply(&Rewind { to: &then }, &mut now).unwrap();
        for ((now, pruned), then) in now.params().iter().zip(pruned.params()).zip(then.params()) {
            assert_eq!(now.mask, pruned.mask);
            let mut expected = then.data.to_f32().unwrap();
            let masked = expected.iter_mut().zip(now.mask.iter().flat_map(|m| m.iter())).filter(|(_, keep)| !**keep);
            masked.for_each(|(value, _)| *value = 0.0);
            assert_eq!(now.data.to_f32().unwrap(), expected);
        }
    }

    #[test]
    fn a_network_with_other_parameters_is_refused_by_name() {
        let mut now = network(5);
        let error = apply(&Rewind { to: &network(6) }, &mut now).unwrap_err();
        let problem = "its shape was [6, 4] and is [5, 4]".to_string();
        assert_eq!(error, PassError::OtherParams { name: "fc1.weight".into(), problem });
        let mut fewer = GraphBuilder::new("net", &[4]).linear("fc1", 6).build().unwrap();
        let error = apply(&Rewind { to: &network(6) }, &mut fewer).unwrap_err();
        assert!(matches!(error, PassError::OtherParams { name, .. } if name == "fc2.weight"));
    }
}
