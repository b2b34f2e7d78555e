//! What the replicas of a block say together. Pure.

/// What was found of one replica by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It fits its checksums; the SHA-256 of its bytes.
    Sound([u8; 32]),
    /// It does not fit its checksums.
    Damaged(String),
    /// Its node does not give it.
    Unreadable(String),
}

/// What is to be said of a replica beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Damaged,
    Unreadable,
    /// It fits its own checksums, but most others hold other bytes, or as many others do.
    Differs,
}

impl Verdict {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::Differs => "differs",
        }
    }
}

/// A verdict for each replica: sound ones count as right where more than half of the sound ones agree.
pub(super) fn judge(findings: &[Finding]) -> Vec<Verdict> {
    let sound: Vec<&[u8; 32]> =
        findings.iter().filter_map(|one| if let Finding::Sound(sha256) = one { Some(sha256) } else { None }).collect();
    let agree = |sha256: &[u8; 32]| sound.iter().filter(|other| ***other == *sha256).count() * 2 > sound.len();
    findings
        .iter()
        .map(|finding| match finding {
            Finding::Sound(sha256) if agree(sha256) => Verdict::Ok,
            Finding::Sound(_) => Verdict::Differs,
            Finding::Damaged(_) => Verdict::Damaged,
            Finding::Unreadable(_) => Verdict::Unreadable,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_the_sound_ones_is_right() {
        let (a, b) = (|| Finding::Sound([1; 32]), || Finding::Sound([2; 32]));
        let (bad, gone) = (|| Finding::Damaged("x".into()), || Finding::Unreadable("y".into()));
        use Verdict::{Damaged, Differs, Ok, Unreadable};
        assert_eq!(judge(&[a(), a(), a()]), [Ok, Ok, Ok]);
        assert_eq!(judge(&[a(), b(), a()]), [Ok, Differs, Ok]);
        assert_eq!(judge(&[a(), b()]), [Differs, Differs], "nobody knows which");
        assert_eq!(judge(&[a(), bad(), gone()]), [Ok, Damaged, Unreadable]);
        assert_eq!(judge(&[a(), b(), bad()]), [Differs, Differs, Damaged], "a damaged one has no vote");
        assert_eq!(judge(&[bad(), bad()]), [Damaged, Damaged]);
        assert!(judge(&[]).is_empty());
    }
}
