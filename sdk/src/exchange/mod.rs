//! The key exchange, both sides, as pure state machines.
//!
//! Publisher: [`Screen`] turns bytes from a peer into a request worth answering, cheapest check first; [`answer`] makes the
//! signed answer once permission and keys are known; [`HistoryPolicy`] says how far back. Subscriber: [`Requester`] decides when
//! to ask whom for what, and which answers count; [`Fetch`] asks for all keys of a span of time, page by page.

mod answer;
mod bucket;
mod fetch;
mod history;
mod page;
mod requester;
mod screen;

pub use answer::{AnswerError, Decision, answer, answer_page, push};
pub use bucket::{Bucket, Rate};
pub use fetch::{Fetch, FetchFailure, FetchStep, FetchedPage};
pub use history::{Asker, HISTORY_GRACE, HistoryPolicies, HistoryPolicy, HistoryPolicyError};
pub use page::Page;
pub use requester::{AnswerFault, AskFailure, Device, Requester, RequesterConfig, RequesterEffect, Settled};
pub use screen::{Candidate, Checked, Dropped, Glance, Screen, ScreenLimits, Screened, Screening};
