//! What is known of Omni: its endpoints, its limit, its error shapes, the form of its tokens.

mod catalogue;
mod families;
mod refusal;
mod rejection;
mod token;
mod whoami;

pub use catalogue::{
    Collection, Endpoint, Keys, Paging, Stales, endpoint, endpoints, is_free_text, is_streaming,
    may_name_user_in_body,
};
pub use families::{MCP_METHODS, is_login_discovery, is_mcp_misuse, is_never_kept, is_sensitive};
pub use refusal::{LOOKED_AT, is_application_429, is_of_the_firewall, retry_after, stated_wait};
pub use rejection::is_rejection;
pub use token::{TOKEN_PREFIX, looks_like_token};
pub use whoami::{KeyScope, WHOAMI};
