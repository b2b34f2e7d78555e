//! `chown` and `chgrp`: who files belong to.

use clap::{ArgAction, Args};
use client::Attributes;

use super::Outcome;
use super::context::Context;
use super::each::{each_below, each_together, start_change};
use super::entry::object;
use super::paths::PATHS_HELP;
use super::paths::walk::Found;

/// A new owner, a new group, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    owner: Option<String>,
    group: Option<String>,
}

fn ownership(text: &str) -> Result<Ownership, String> {
    let (owner, group) = text.split_once(':').map_or((text, None), |(owner, group)| (owner, Some(group)));
    if group == Some("") || (owner.is_empty() && group.is_none()) {
        return Err("write OWNER, OWNER:GROUP or :GROUP".to_owned());
    }
    Ok(Ownership { owner: (!owner.is_empty()).then(|| owner.to_owned()), group: group.map(str::to_owned) })
}

/// What both verbs take besides the new owner.
#[derive(Debug, Args)]
struct Common {
    /// What to change
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Everything below, too; symbolic links are changed themselves, also one that is named
    #[arg(short = 'R', long)]
    recursive: bool,
    /// A symbolic link itself instead of what it names
    #[arg(short = 'h', long)]
    no_dereference: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Flags of `chown`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = PATHS_HELP,
    after_long_help = format!("\
Only the superuser gives files away; an owner may choose among its own groups.

{PATHS_HELP}

Examples:
  blockyard chown -R ana:etl /data
  blockyard chown :etl /data/x")
)]
pub(crate) struct ChownOptions {
    /// OWNER, OWNER:GROUP or :GROUP
    #[arg(value_name = "OWNER[:GROUP]", value_parser = ownership)]
    to: Ownership,
    #[command(flatten)]
    common: Common,
}

/// Flags of `chgrp`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = PATHS_HELP)]
pub(crate) struct ChgrpOptions {
    /// The new group
    group: String,
    #[command(flatten)]
    common: Common,
}

/// Runs `chown`.
pub(crate) async fn chown(options: &ChownOptions, context: &Context) -> Outcome {
    run(&options.to, &options.common, context).await
}

/// Runs `chgrp`.
pub(crate) async fn chgrp(options: &ChgrpOptions, context: &Context) -> Outcome {
    let to = Ownership { owner: None, group: Some(options.group.clone()) };
    run(&to, &options.common, context).await
}

async fn run(to: &Ownership, common: &Common, context: &Context) -> Outcome {
    // What a walk comes to may have become a link by the time that it is changed: it is never followed.
    let no_follow = common.recursive || common.no_dereference;
    each_together(context, &common.paths, false, async |path| {
        let top = start_change(context, path, no_follow).await?;
        let change = |context, found| change(to.clone(), no_follow, context, found);
        each_below(context, top, common.recursive, change).await
    })
    .await
}

async fn change(to: Ownership, no_follow: bool, context: Context, found: Found) -> Outcome {
    let attributes = Attributes { owner: to.owner, group: to.group, no_follow, ..Attributes::default() };
    let status = context.client.set_attributes(&found.path, &attributes).await?;
    if context.output.is_json() { context.output.record(&object(&status, &found.path)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_groups() {
        let of = |owner: Option<&str>, group: Option<&str>| {
            Ok(Ownership { owner: owner.map(str::to_owned), group: group.map(str::to_owned) })
        };
        assert_eq!(ownership("ana"), of(Some("ana"), None));
        assert_eq!(ownership("ana:etl"), of(Some("ana"), Some("etl")));
        assert_eq!(ownership(":etl"), of(None, Some("etl")));
        for bad in ["", ":", "ana:"] {
            assert!(ownership(bad).is_err(), "{bad:?}");
        }
    }
}
