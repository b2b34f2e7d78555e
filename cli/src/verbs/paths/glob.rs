//! Patterns for names, as shells and Hadoop have them. Pure: what is there is looked up in [`super::expand`].
//!
//! ```text
//!   *        any characters, also none          [abc] [a-c]   one of these
//!   ?        one character                      [^a] [!a]     one character, none of these
//!   {a,b}    a, or b; may hold `/` and more     \c            c itself
//! ```
//!
//! Any text is a pattern: brackets and braces that do not close, and braces without a comma, mean themselves. A
//! dot at the beginning of a name is a character like any other (but see [`Glob::begins_with_dot`]).

/// Texts that braces may stand for, at most.
const MAX_ALTERNATIVES: usize = 4096;

/// Does the text hold a character with a meaning of its own?
pub(crate) fn is_special(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// Braces that stand for too many texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the braces stand for more than {MAX_ALTERNATIVES} names")]
pub(crate) struct TooMany;

/// A pattern for whole paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What the braces stand for: each a row of components.
    pub(crate) alternatives: Vec<Vec<Component>>,
}

/// What one component of a path may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// Exactly this name.
    Name(String),
    /// Every name that fits.
    Glob(Glob),
}

/// A pattern for one name, without braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    AnyOne,
    Many,
    OneOf { negated: bool, ranges: Vec<(char, char)> },
}

/// A pattern for one name, with braces, as in `find --name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    globs: Vec<Glob>,
    ignore_case: bool,
}

impl Pattern {
    /// Reads the pattern of an absolute path.
    pub(crate) fn parse(text: &str) -> Result<Self, TooMany> {
        let component = |name: &str| {
            let glob = Glob::parse(name);
            glob.literal().map_or(Component::Glob(glob), Component::Name)
        };
        let rest = |text: &str| text.strip_prefix('/').unwrap_or(text).split('/').map(component).collect();
        Ok(Self { alternatives: alternatives(text)?.iter().map(|text| rest(text)).collect() })
    }
}

impl Names {
    pub(crate) fn parse(text: &str, ignore_case: bool) -> Result<Self, TooMany> {
        let text = if ignore_case { text.to_lowercase() } else { text.to_owned() };
        Ok(Self { globs: alternatives(&text)?.iter().map(|one| Glob::parse(one)).collect(), ignore_case })
    }
    /// Does the whole text fit? A slash is a character like any other here.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self.ignore_case {
            false => self.globs.iter().any(|glob| glob.matches(text)),
            true => {
                let text = text.to_lowercase();
                self.globs.iter().any(|glob| glob.matches(&text))
            }
        }
    }
}

impl Glob {
    fn parse(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            at += 1;
            let token = match c {
                '*' => Token::Many,
                '?' => Token::AnyOne,
                '[' => match class(&chars, at) {
                    Some((token, end)) => {
                        at = end;
                        token
                    }
                    None => Token::One('['),
                },
                '\\' => match chars.get(at) {
                    Some(&escaped) => {
                        at += 1;
                        Token::One(escaped)
                    }
                    None => Token::One('\\'),
                },
                other => Token::One(other),
            };
            // Two stars in a row mean no more than one.
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        Self { tokens }
    }

    /// The only name that fits, if there is only one.
    fn literal(&self) -> Option<String> {
        let one = |token: &Token| if let Token::One(c) = token { Some(*c) } else { None };
        self.tokens.iter().map(one).collect()
    }

    /// What every name that fits begins with.
    pub(crate) fn prefix(&self) -> String {
        let one = |token: &Token| if let Token::One(c) = token { Some(*c) } else { None };
        self.tokens.iter().map_while(one).collect()
    }

    /// Is the first character a dot that means itself?
    pub(crate) fn begins_with_dot(&self) -> bool {
        self.tokens.first() == Some(&Token::One('.'))
    }

    /// Does the whole name fit? Takes at most the product of both lengths.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (mut token_at, mut rest) = (0, name.chars());
        // Where to go on after a mismatch: the last star takes one character more.
        let mut star: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            match self.tokens.get(token_at) {
                Some(Token::Many) => {
                    token_at += 1;
                    star = Some((token_at, rest.clone()));
                    continue;
                }
                Some(token) => {
                    let mut ahead = rest.clone();
                    if ahead.next().is_some_and(|c| token.fits(c)) {
                        token_at += 1;
                        rest = ahead;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((after_star, from)) = &mut star else { return false };
            if from.next().is_none() {
                return false;
            }
            token_at = *after_star;
            rest = from.clone();
        }
    }
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::AnyOne => true,
            Self::Many => false,
            Self::OneOf { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

/// The class whose first character is at `at`, and where it ends; `None` if it does not close.
fn class(chars: &[char], mut at: usize) -> Option<(Token, usize)> {
    let negated = matches!(chars.get(at), Some('^' | '!'));
    at += usize::from(negated);
    let mut ranges = Vec::new();
    let first = at;
    loop {
        let low = match chars.get(at)? {
            // Right at the beginning it is one of the characters.
            ']' if at > first => return Some((Token::OneOf { negated, ranges }, at + 1)),
            '\\' => {
                at += 1;
                *chars.get(at)?
            }
            c => *c,
        };
        at += 1;
        let is_range = chars.get(at) == Some(&'-') && !matches!(chars.get(at + 1), None | Some(']'));
        if !is_range {
            ranges.push((low, low));
            continue;
        }
        at += 1;
        if chars.get(at) == Some(&'\\') {
            at += 1;
        }
        ranges.push((low, *chars.get(at)?));
        at += 1;
    }
}

/// The texts that braces stand for, from left to right, each with its other special characters untouched.
fn alternatives(text: &str) -> Result<Vec<String>, TooMany> {
    let mut done = Vec::new();
    // The last one is worked on first, so that the order stays that of the text.
    let mut waiting = vec![(String::new(), text.chars().collect::<Vec<char>>())];
    while let Some((head, rest)) = waiting.pop() {
        match first_brace(&rest) {
            None => done.push(head + &rest.iter().collect::<String>()),
            Some(Brace { open, close, commas }) => {
                let head = head + &rest.iter().take(open).collect::<String>();
                let ends = commas.iter().copied().chain([close]);
                let begins = [open].into_iter().chain(commas.iter().copied()).map(|at| at + 1);
                let mut parts: Vec<(String, Vec<char>)> = Vec::new();
                for (begin, end) in begins.zip(ends) {
                    let part = rest.iter().skip(begin).take(end - begin);
                    parts.push((head.clone(), part.chain(rest.iter().skip(close + 1)).copied().collect()));
                }
                waiting.extend(parts.into_iter().rev());
            }
        }
        if done.len() + waiting.len() > MAX_ALTERNATIVES {
            return Err(TooMany);
        }
    }
    Ok(done)
}

/// Places of a pair of braces and of the commas between them.
struct Brace {
    open: usize,
    close: usize,
    commas: Vec<usize>,
}

/// The first pair of braces with a comma in it.
fn first_brace(chars: &[char]) -> Option<Brace> {
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 1,
            '[' => at = class(chars, at + 1).map_or(at, |(_, end)| end - 1),
            '{' => {
                if let Some(brace) = brace_at(chars, at) {
                    return Some(brace);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn brace_at(chars: &[char], open: usize) -> Option<Brace> {
    let (mut at, mut depth, mut commas) = (open + 1, 0_usize, Vec::new());
    loop {
        match chars.get(at)? {
            '\\' => at += 1,
            '[' => at = class(chars, at + 1).map_or(at, |(_, end)| end - 1),
            '{' => depth += 1,
            ',' if depth == 0 => commas.push(at),
            '}' if depth == 0 => return (!commas.is_empty()).then_some(Brace { open, close: at, commas }),
            '}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Names::parse(pattern, false).unwrap().matches(name)
    }

    #[test]
    fn characters_with_a_meaning() {
        for (pattern, yes, no) in [
            ("*", &["", "a", ".x", "ä…"][..], &[][..]),
            ("*.log", &["a.log", ".log"], &["a.logs", "log"]),
            ("a?c", &["abc", "a…c"], &["ac", "abbc"]),
            ("[abc]x", &["ax", "cx"], &["dx", "x"]),
            ("[a-cx]", &["b", "x"], &["d", "-"]),
            ("[^a-c]", &["d", "-"], &["a", ""]),
            ("[!a]", &["b"], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            (r"[\]]", &["]"], &["\\"]),
            (r"\*", &["*"], &["a", "\\*"]),
            (r"a\", &["a\\"], &["a"]),
            ("[a", &["[a"], &["a"]),
            ("{a,b}.{x,y}", &["a.x", "b.y"], &["a.b", "{a,b}.x"]),
            ("{a,{b,c}d}", &["a", "bd", "cd"], &["b", "ad"]),
            ("x{,y}", &["x", "xy"], &["x,"]),
            ("{a}", &["{a}"], &["a"]),
            ("{a,b", &["{a,b"], &["a"]),
            (r"{a\,b}", &["{a,b}"], &["a"]),
            ("{[,],x}", &[",", "x"], &["["]),
            ("*a*b*c*", &["abc", "xaybzc!"], &["acb"]),
        ] {
            for name in yes {
                assert!(fits(pattern, name), "{pattern} must fit {name}");
            }
            for name in no {
                assert!(!fits(pattern, name), "{pattern} must not fit {name}");
            }
        }
        assert!(Names::parse("*.JPG", true).unwrap().matches("Ä.jpg"));
    }

    #[test]
    fn components_are_names_or_globs() {
        let pattern = Pattern::parse(r"/logs\*/{2025/12,2026}/*.gz").unwrap();
        let shape: Vec<Vec<Option<&str>>> = pattern
            .alternatives
            .iter()
            .map(|row| {
                row.iter().map(|one| if let Component::Name(name) = one { Some(&**name) } else { None }).collect()
            })
            .collect();
        assert_eq!(
            shape,
            [vec![Some("logs*"), Some("2025"), Some("12"), None], vec![Some("logs*"), Some("2026"), None]]
        );
        assert_eq!(Glob::parse(r"part-\*0?x").prefix(), "part-*0");
        let dotted = [".*", r"\.x*", "*", "[.]*", "?x", ""].map(|text| Glob::parse(text).begins_with_dot());
        assert_eq!(dotted, [true, true, false, false, false, false]);
    }

    #[test]
    fn braces_have_a_limit_and_stars_take_no_exponential_time() {
        assert_eq!(Pattern::parse(&"{a,b}".repeat(13)), Err(TooMany));
        assert_eq!(Pattern::parse(&"{a,b}".repeat(12)).unwrap().alternatives.len(), 4096);
        let worst = format!("{}b", "a*".repeat(60));
        assert!(!fits(&worst, &"a".repeat(250)));
    }

    /// The simplest matcher there is.
    fn slow(tokens: &[Token], name: &[char]) -> bool {
        match (tokens.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((Token::Many, tokens)), _) => (0..=name.len()).any(|taken| slow(tokens, &name[taken..])),
            (Some((token, tokens)), Some((c, name))) => token.fits(*c) && slow(tokens, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn every_text_is_a_pattern_and_matches_like_the_simplest_matcher(pattern in "[ab*?\\[\\]^{},\\\\-]{0,10}", name in "[ab,{}^-]{0,8}") {
            let name_chars: Vec<char> = name.chars().collect();
            if let Ok(names) = Names::parse(&pattern, false) {
                for glob in &names.globs {
                    prop_assert_eq!(glob.matches(&name), slow(&glob.tokens, &name_chars), "{:?}", glob);
                }
            }
        }

        #[test]
        fn an_escaped_text_means_itself(text in any::<String>().prop_filter("no slash", |text| !text.contains('/'))) {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(fits(&escaped, &text));
            let pattern = Pattern::parse(&format!("/{escaped}")).unwrap();
            prop_assert_eq!(pattern.alternatives, vec![vec![Component::Name(text)]]);
        }
    }
}
