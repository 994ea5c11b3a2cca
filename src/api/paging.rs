//! Lists in pages, newest first. A page's token is the id of its last entry, ids growing with time, and what says which
//! list it belongs to: the token of another list, or of none, is refused.

use super::convert::{Checks, Path};
use super::filter::{self, Field};
use super::limits::{DEFAULT_PAGE, MAX_PAGE, MAX_REQUEST_ID};
use super::names::Collection;
use super::status::RequestError;
use crate::digest::Digest;
use crate::error::{Classify, Violation};
use crate::store::Page;

/// What a list request asks for.
pub struct Paging {
    /// The page to read.
    pub page: Page,
    /// Which list it is one of.
    list: String,
}

impl Paging {
    /// Reads what a request for the list `what` of `parent` says; all its bad fields at once otherwise.
    pub(super) fn read(
        what: Collection,
        parent: &str,
        page_size: i32,
        page_token: &str,
        filter: &str,
        fields: &[Field],
    ) -> Result<Self, RequestError> {
        let mut checks = Checks::default();
        let size = match u32::try_from(page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => {
                checks.refuse(&Path::root("page_size"), format!("{page_size} is negative"));
                DEFAULT_PAGE
            }
        };
        let list = Digest::of(format!("{what:?}\n{parent}\n{filter}").as_bytes()).hex()[..16].to_string();
        let before = match page_token.split_once('.') {
            None if page_token.is_empty() => None,
            Some((id, of)) if of == list && uuid::Uuid::try_parse(id).is_ok() => Some(id.to_string()),
            _ => {
                checks.refuse(&Path::root("page_token"), "is no next_page_token of this list");
                None
            }
        };
        let filter = filter::filter(filter, fields).unwrap_or_else(|error| {
            error.violations().into_iter().for_each(|violation| checks.add(Some(violation)));
            Default::default()
        });
        // One more than is shown says whether there is a next page.
        let paging = Self { page: Page { size: size + 1, before, filter }, list };
        checks.finish(paging).map_err(|violations| RequestError::Invalid { violations })
    }

    /// Cuts the one entry too many off, and says how to go on if it was there.
    pub(super) fn cut<T>(&self, entries: &mut Vec<T>, id: impl Fn(&T) -> &str) -> String {
        let shown = self.page.size as usize - 1;
        if entries.len() <= shown {
            return String::new();
        }
        entries.truncate(shown);
        entries.last().map(|last| format!("{}.{}", id(last), self.list)).unwrap_or_default()
    }
}

/// Checks the key that a caller chose for a create call.
pub fn check_request_id(request_id: &str) -> Option<Violation> {
    let fine = request_id.len() <= MAX_REQUEST_ID && request_id.bytes().all(|c| c.is_ascii_graphic());
    let allowed = format!("at most {MAX_REQUEST_ID} visible ASCII characters are allowed");
    (!fine).then(|| Violation::new("request_id", allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::filter::ENTRIES;

    fn read(parent: &str, size: i32, token: &str, filter: &str) -> Result<Paging, RequestError> {
        Paging::read(Collection::Models, parent, size, token, filter, ENTRIES)
    }

    #[test]
    fn sizes_are_clamped_and_nonsense_is_refused() {
        assert_eq!(read("p", 0, "", "").unwrap().page, Page { size: 51, ..Page::default() });
        assert_eq!(read("p", i32::MAX, "", "").unwrap().page.size, 501);
        let violations = read("p", -1, "' OR 1=1 --", "nonsense").err().unwrap().violations();
        let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["page_size", "page_token", "filter"]);
    }

    #[test]
    fn a_full_page_has_a_next_one_only_if_there_is_more_and_its_token_is_of_no_other_list() {
        let ids: Vec<String> = (0..3).map(|_| uuid::Uuid::now_v7().to_string()).collect();
        let paging = read("p", 2, "", "state = READY").unwrap();
        let mut more = ids.clone();
        let token = paging.cut(&mut more, |id| id);
        assert_eq!(more, ids[..2]);
        assert_eq!(read("p", 2, &token, "state = READY").unwrap().page.before.as_ref(), Some(&ids[1]));
        assert_eq!(paging.cut(&mut ids[..2].to_vec(), |id| id), "");
        for refused in [
            read("q", 2, &token, "state = READY"),
            read("p", 2, &token, ""),
            read("p", 2, &ids[1], "state = READY"),
            Paging::read(Collection::Datasets, "p", 2, &token, "state = READY", ENTRIES),
        ] {
            assert!(refused.is_err());
        }
    }
}
