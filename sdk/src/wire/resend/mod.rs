//! Stored messages, asked for and answered page by page, and where they can be asked for.

mod page;
mod place;
mod record;
mod request;

pub use page::{MAX_MESSAGES_PER_PAGE, ResendPage};
pub use record::StorageRecord;
pub use request::{ResendRequest, Span};
