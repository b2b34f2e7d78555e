//! The namenode's service functions: what every door calls.
//!
//! [`request`] holds the closed lists of requests and answers.

pub mod request;
