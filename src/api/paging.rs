//! Lists in pages, newest first. A page's token is the id of its last entry: ids grow with time.

use super::convert::{Checks, Path};
use super::limits::{DEFAULT_PAGE, MAX_PAGE, MAX_REQUEST_ID};
use super::status::RequestError;
use crate::error::Violation;
use crate::store::Page;

/// What a list request asks for.
pub fn page(page_size: i32, page_token: &str) -> Result<Page, RequestError> {
    let mut checks = Checks::default();
    let size = match u32::try_from(page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => {
            checks.refuse(&Path::root("page_size"), format!("{page_size} is negative"));
            DEFAULT_PAGE
        }
    };
    let known = page_token.is_empty() || uuid::Uuid::try_parse(page_token).is_ok();
    if !known {
        checks.refuse(&Path::root("page_token"), "is not a next_page_token of this server");
    }
    // One more than is shown says whether there is a next page.
    let page =
        Page { size: size + 1, before: (!page_token.is_empty()).then(|| page_token.to_string()), ..Page::default() };
    checks.finish(page).map_err(|violations| RequestError::Invalid { violations })
}

/// Cuts the one entry too many off, and says how to go on if it was there.
pub fn cut<T>(entries: &mut Vec<T>, page: &Page, id: impl Fn(&T) -> &str) -> String {
    let shown = page.size as usize - 1;
    if entries.len() <= shown {
        return String::new();
    }
    entries.truncate(shown);
    entries.last().map(|last| id(last).to_string()).unwrap_or_default()
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
    use crate::error::Classify;

    #[test]
    fn sizes_are_clamped_and_nonsense_is_refused() {
        assert_eq!(page(0, "").unwrap(), Page { size: 51, ..Page::default() });
        assert_eq!(page(i32::MAX, "").unwrap().size, 501);
        let violations = page(-1, "' OR 1=1 --").unwrap_err().violations();
        assert_eq!(violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["page_size", "page_token"]);
    }

    #[test]
    fn a_full_page_has_a_next_one_only_if_there_is_more() {
        let page = page(2, "").unwrap();
        let mut more = vec!["c", "b", "a"];
        assert_eq!((cut(&mut more, &page, |e| e), more), ("b".to_string(), vec!["c", "b"]));
        assert_eq!(cut(&mut vec!["b", "a"], &page, |e| e), "");
    }
}
