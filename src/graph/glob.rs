//! Names by pattern, for `ignored` and its kin: `*` stands for any characters, `?` for one; the rest is literal.

use super::{Graph, ParamId};

/// Whether `name` fits `pattern`. Takes time proportional to the product of their lengths at worst.
///
/// ```
/// use niwaki::graph::glob::matches;
/// assert!(matches("fc?.*", "fc1.weight"));
/// assert!(!matches("fc?.*", "conv1.weight"));
/// ```
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go back to when what follows the last `*` does not fit: the star, and how much it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, swallowed)) = star else { return false };
                star = Some((at, swallowed + 1));
                p = at + 1;
                n = swallowed + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The parameters whose name fits one of `patterns`, or the first pattern that fits none.
pub fn select<'p>(graph: &Graph, patterns: &'p [String]) -> Result<Vec<ParamId>, &'p str> {
    let mut selected = Vec::new();
    for pattern in patterns {
        let before = selected.len();
        selected.extend(graph.param_ids().filter(|id| matches(pattern, &graph.param(*id).name)));
        if selected.len() == before {
            return Err(pattern);
        }
    }
    Ok(selected)
}

/// The nodes, by their place, whose name fits one of `patterns`, or the first pattern that fits none.
pub fn select_nodes<'p>(graph: &Graph, patterns: &'p [String]) -> Result<Vec<usize>, &'p str> {
    let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
    let fits = |pattern: &str, place: &usize| matches(pattern, names[*place]);
    if let Some(pattern) = patterns.iter().find(|pattern| !(0..names.len()).any(|place| fits(pattern, &place))) {
        return Err(pattern);
    }
    Ok((0..names.len()).filter(|place| patterns.iter().any(|pattern| fits(pattern, place))).collect())
}

#[cfg(test)]
mod tests {
    use super::{matches, select_nodes};
    use crate::graph::preset;

    #[test]
    fn a_star_swallows_as_much_as_it_must() {
        assert!(matches("*.weight", "layer1.0.conv1.weight"));
        assert!(matches("a*b*c", "axxbyybzzc"));
        assert!(matches("*", ""));
        assert!(!matches("a*b", "axxc"));
        assert!(!matches("", "a"));
    }

    #[test]
    fn nodes_are_selected_once_and_in_their_order() {
        let graph = preset::build("lenet5").unwrap();
        let patterns = |patterns: &[&str]| patterns.iter().map(|p| p.to_string()).collect::<Vec<_>>();
        let selected = |globs: &[&str]| -> Result<Vec<String>, String> {
            let globs = patterns(globs);
            let places = select_nodes(&graph, &globs)?;
            Ok(places.into_iter().map(|place| graph.nodes()[place].name.clone()).collect())
        };
        assert_eq!(selected(&["fc?", "conv*", "fc3"]).unwrap(), ["conv1", "conv2", "fc1", "fc2", "fc3"]);
        assert_eq!(selected(&["fc1", "fc1.*"]), Err("fc1.*".into()));
        assert_eq!(selected(&[]), Ok(vec![]));
    }
}
