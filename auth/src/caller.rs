//! The caller of a service function: an argument of every one of them, from the first line on.

use std::fmt;

/// How the caller's name was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The name was taken on trust, from loopback or by an explicit unsafe setting. Hadoop: SIMPLE.
    Simple,
    /// A server of this cluster acting for itself (reclaiming, lease expiry, start-up).
    Internal,
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "SIMPLE",
            Self::Internal => "INTERNAL",
        })
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name: 1 to 255 bytes without control characters, `:` or `/`.
    pub user: String,
    /// Groups of the user, as the namenode resolved them; the first one is the primary.
    pub groups: Vec<String>,
    /// How the name was established.
    pub method: AuthMethod,
    /// Address it called from, for the audit record.
    pub address: String,
    /// Id chosen by the client, for logs and the audit record; at most 128 bytes.
    pub request_id: String,
}

impl Caller {
    /// A caller whose name is taken on trust. Group membership is the user's own group, as on most
    /// machines; the service adds the superuser group where the replicated settings say so.
    ///
    /// `None` if the name is empty, longer than 255 bytes, or has characters that an audit line or a
    /// mode listing could not show.
    #[must_use]
    pub fn simple(user: &str, address: &str, request_id: &str) -> Option<Self> {
        let fits = !user.is_empty()
            && user.len() <= 255
            && !user.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ','));
        fits.then(|| Self {
            user: user.to_owned(),
            groups: vec![user.to_owned()],
            method: AuthMethod::Simple,
            address: address.to_owned(),
            request_id: request_id.chars().filter(|c| !c.is_control()).take(128).collect(),
        })
    }

    /// The cluster itself.
    #[must_use]
    pub fn internal(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            groups: Vec::new(),
            method: AuthMethod::Internal,
            address: String::from("local"),
            request_id: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_words_of_a_client_are_refused_or_fit_an_audit_line(user in any::<String>(), id in ".{0,300}") {
            if let Some(caller) = Caller::simple(&user, "127.0.0.1:1", &id) {
                prop_assert_eq!(&caller.user, &user);
                prop_assert!(user.len() <= 255 && !user.is_empty());
                let line = format!("{}{}", caller.user, caller.request_id);
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(caller.request_id.chars().count() <= 128);
            }
        }
    }

    #[test]
    fn names_that_break_an_audit_line_are_refused() {
        for bad in ["", "a b", "a\tb", "a\nb", "a:b", "../x", &"x".repeat(256)] {
            assert!(Caller::simple(bad, "127.0.0.1", "r").is_none(), "{bad:?}");
        }
        assert!(Caller::simple("ana.b-1@corp", "127.0.0.1", "r").is_some());
    }
}
