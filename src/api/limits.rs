//! The limits that requests meet. `ServerInfo.limits` tells them to clients.

/// The largest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The largest chunk of an upload, in bytes; downloads come in chunks of at most this size too.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// What the models of one job may have together, in bytes.
pub const MAX_MODELS_BYTES: u64 = 4 << 30;
/// The longest `display_name`, in characters.
pub const MAX_DISPLAY_NAME: usize = 200;
/// The longest `graph_json` of a model, in bytes.
pub const MAX_GRAPH_JSON: usize = 1 << 20;
/// The longest `request_id`, in bytes.
pub const MAX_REQUEST_ID: usize = 128;
/// The most files of a data set: with names of any length, a data set still fits into a message.
pub const MAX_FILES: usize = 10_000;
/// The length of a page, where the request says none.
pub const DEFAULT_PAGE: u32 = 50;
/// The longest page.
pub const MAX_PAGE: u32 = 500;
