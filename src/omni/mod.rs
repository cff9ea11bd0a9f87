//! What is known of Omni: its limit, its error shapes, the form of its tokens.

mod free_text;
mod refusal;
mod rejection;
mod streams;
mod token;
mod whoami;

pub use free_text::is_free_text;
pub use refusal::{LOOKED_AT, is_application_429, retry_after, stated_wait};
pub use rejection::is_rejection;
pub use streams::is_streaming;
pub use token::{TOKEN_PREFIX, looks_like_token};
pub use whoami::{KeyScope, WHOAMI};
