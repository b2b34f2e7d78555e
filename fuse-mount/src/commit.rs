//! How a changed copy of a file gets into the cluster, whose blocks never change: decided here, done in `file`. Pure.

/// What is known of a file when its changes are to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Length that the cluster has.
    pub(crate) base_len_bytes: u64,
    /// The shortest that it was since then: what is behind was cut, and perhaps written again.
    pub(crate) floor_len_bytes: u64,
    /// Length that it is to have.
    pub(crate) len_bytes: u64,
    /// The first byte that was written.
    pub(crate) first_written: Option<u64>,
    /// Names that it has.
    pub(crate) names: u32,
    /// It has no name in this mount any more.
    pub(crate) unlinked: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Nothing: the cluster has it, or nobody will ever ask for it.
    Nothing,
    /// Only the end is gone.
    Cut,
    /// Everything new is behind the old end: it is appended, and the file stays the one that it is.
    Append,
    /// A new file is written beside it and takes its name in one step: a reader has the old bytes or the new ones.
    Replace,
    /// It has further names, which a new file would leave behind: it takes the content of a new one, in one step.
    Rewrite,
}

/// Decides.
#[must_use]
pub(crate) const fn commit(file: &Changed) -> Commit {
    let old_touched = match file.first_written {
        Some(first) => first < file.base_len_bytes,
        None => false,
    };
    let untouched = file.first_written.is_none() && file.floor_len_bytes >= file.base_len_bytes;
    if file.unlinked || untouched && file.len_bytes == file.base_len_bytes {
        Commit::Nothing
    } else if file.first_written.is_none() && file.len_bytes == file.floor_len_bytes {
        Commit::Cut
    } else if !old_touched && file.floor_len_bytes >= file.base_len_bytes {
        Commit::Append
    } else if file.names > 1 {
        Commit::Rewrite
    } else {
        Commit::Replace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Changed = Changed {
        base_len_bytes: 100,
        floor_len_bytes: 100,
        len_bytes: 100,
        first_written: None,
        names: 1,
        unlinked: false,
    };

    #[test]
    fn each_change_takes_the_cheapest_way_that_is_right() {
        let cases = [
            (BASE, Commit::Nothing),
            (Changed { len_bytes: 150, first_written: Some(100), ..BASE }, Commit::Append),
            (Changed { len_bytes: 150, first_written: Some(120), ..BASE }, Commit::Append),
            (Changed { len_bytes: 150, ..BASE }, Commit::Append),
            (Changed { len_bytes: 150, first_written: Some(99), ..BASE }, Commit::Replace),
            (Changed { first_written: Some(0), ..BASE }, Commit::Replace),
            (Changed { first_written: Some(0), names: 2, ..BASE }, Commit::Rewrite),
            (Changed { len_bytes: 40, floor_len_bytes: 40, ..BASE }, Commit::Cut),
            (Changed { len_bytes: 40, floor_len_bytes: 40, names: 2, ..BASE }, Commit::Cut),
            // Cut and made longer again: what was there is zeros now.
            (Changed { floor_len_bytes: 40, ..BASE }, Commit::Replace),
            (Changed { len_bytes: 150, floor_len_bytes: 40, ..BASE }, Commit::Replace),
            (Changed { len_bytes: 150, floor_len_bytes: 40, first_written: Some(120), ..BASE }, Commit::Replace),
            (Changed { len_bytes: 0, floor_len_bytes: 0, ..BASE }, Commit::Cut),
            (Changed { first_written: Some(0), unlinked: true, ..BASE }, Commit::Nothing),
        ];
        for (file, wanted) in cases {
            assert_eq!(commit(&file), wanted, "{file:?}");
        }
    }
}
