//! `acl`: rights for more users and groups than owner, group and others.

use clap::{ArgGroup, Args, Subcommand};
use client::{AclChange, AclEntry, AclScope, FileKind, GetAclResponse};
use serde_json::{Value, json};

use super::Outcome;
use super::context::Context;
use super::each::{each, each_below, each_together, settle, start, start_beside_links};
use super::paths::PATHS_HELP;
use super::paths::walk::{Found, Walk};
use super::text::acl::{effective, entry_text, parse, parse_names, rights_text, tag_name};
use super::text::plain;

/// `acl VERB`.
#[derive(Debug, Args)]
pub(crate) struct AclVerb {
    #[command(subcommand)]
    pub(crate) verb: AclCommand,
}

/// Verbs below `acl`.
#[derive(Debug, Subcommand)]
pub(crate) enum AclCommand {
    /// Show ACLs
    Get(AclGetOptions),
    /// Change ACLs
    Set(AclSetOptions),
    /// Remove ACLs, or entries of them
    Rm(AclRmOptions),
}

/// Flags of `acl get`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct AclGetOptions {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Entries, read from one word.
#[derive(Clone, Debug)]
pub(crate) struct Entries(Vec<AclEntry>);

/// Flags of `acl set`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("change").required(true),
    after_help = PATHS_HELP,
    after_long_help = format!("\
ENTRIES are user:NAME:rwx, group:NAME:r-x, mask::rwx, other::r--, with commas between; no name is the owner, or the
owning group. With default: in front they are what new entries of a directory get. The mask limits what named users and
all groups may; it is computed unless it is set.

{PATHS_HELP}

Examples:
  blockyard acl set -m user:bob:rw- /data/x
  blockyard acl set -R -m group:etl:r-x,default:group:etl:r-x /data
  blockyard acl set --set user::rwx,user:bob:r-x,group::r-x,other::--- /data/x
  blockyard acl set -x user:bob /data/x")
)]
pub(crate) struct AclSetOptions {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Add these entries, or replace them
    #[arg(short, long, value_name = "ENTRIES", value_parser = |text: &str| parse(text).map(Entries), group = "change")]
    modify: Option<Entries>,
    /// Exactly these entries instead of all that are there
    #[arg(long, value_name = "ENTRIES", value_parser = |text: &str| parse(text).map(Entries), group = "change")]
    set: Option<Entries>,
    /// Remove these entries; rights are not needed
    #[arg(short = 'x', long, value_name = "ENTRIES", value_parser = |text: &str| parse_names(text).map(Entries), group = "change")]
    remove: Option<Entries>,
    /// Remove all default entries
    #[arg(short = 'k', long, group = "change")]
    remove_default: bool,
    /// Remove the whole ACL: only the mode stays
    #[arg(short = 'b', long, group = "change")]
    remove_all: bool,
    /// Everything below, too; default entries for directories only
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Flags of `acl rm`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
Without -x and -k the whole ACL is removed: only the mode stays.

{PATHS_HELP}

Examples:
  blockyard acl rm /data/x
  blockyard acl rm -x user:bob,default:user:bob /data")
)]
pub(crate) struct AclRmOptions {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// These entries only
    #[arg(short = 'x', long, value_name = "ENTRIES", value_parser = |text: &str| parse_names(text).map(Entries), conflicts_with = "default")]
    entries: Option<Entries>,
    /// All default entries only
    #[arg(short = 'k', long)]
    default: bool,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Runs `acl VERB`.
pub(crate) async fn run(verb: &AclCommand, context: &Context) -> Outcome {
    match verb {
        AclCommand::Get(options) => get(options, context).await,
        AclCommand::Set(options) => {
            let (change, entries) = match (&options.modify, &options.set, &options.remove) {
                (Some(entries), ..) => (AclChange::Modify, entries.0.as_slice()),
                (_, Some(entries), _) => (AclChange::Set, entries.0.as_slice()),
                (_, _, Some(entries)) => (AclChange::RemoveEntries, entries.0.as_slice()),
                _ if options.remove_default => (AclChange::RemoveDefault, &[][..]),
                _ => (AclChange::RemoveAll, &[][..]),
            };
            change_all(&options.paths, options.recursive, change, entries, context).await
        }
        AclCommand::Rm(options) => {
            let (change, entries) = match &options.entries {
                Some(entries) => (AclChange::RemoveEntries, entries.0.as_slice()),
                None if options.default => (AclChange::RemoveDefault, &[][..]),
                None => (AclChange::RemoveAll, &[][..]),
            };
            change_all(&options.paths, options.recursive, change, entries, context).await
        }
    }
}

async fn change_all(
    paths: &[String],
    recursive: bool,
    change: AclChange,
    entries: &[AclEntry],
    context: &Context,
) -> Outcome {
    each_together(context, paths, false, async |path| {
        let Some(top) = start_beside_links(context, path, recursive).await? else { return Ok(()) };
        let one = |context, found| change_one(change, entries.to_vec(), context, found);
        each_below(context, top, recursive, one).await
    })
    .await
}

async fn change_one(change: AclChange, entries: Vec<AclEntry>, context: Context, found: Found) -> Outcome {
    let below = found.depth > 0;
    if below && found.status.kind() == FileKind::Symlink {
        return Ok(());
    }
    let had_entries = !entries.is_empty();
    // A walk over a tree takes default entries to directories only; by itself a file is refused, and told so.
    let kept = |entry: &AclEntry| !below || found.is_directory() || entry.scope() == AclScope::Access;
    let entries: Vec<AclEntry> = entries.into_iter().filter(kept).collect();
    if (had_entries && entries.is_empty()) || (below && !found.is_directory() && change == AclChange::RemoveDefault) {
        return Ok(());
    }
    context.client.change_acl(&found.path, change, entries).await?;
    if context.output.is_json() {
        let acl = context.client.acl(&found.path).await?;
        return context.output.object(&object(&acl, &found.path));
    }
    Ok(())
}

async fn get(options: &AclGetOptions, context: &Context) -> Outcome {
    let mut first = true;
    each(context, &options.paths, async |path| {
        print(context, path, &mut first).await?;
        if options.recursive {
            let mut walk = Walk::below(&context.client, &start(context, path).await?);
            while let Some(found) = walk.next().await {
                let done = match found {
                    Ok(found) if found.status.kind() == FileKind::Symlink => continue,
                    Ok(found) => {
                        print(context, &found.path, &mut first).await.map_err(|failure| failure.at(&found.path))
                    }
                    Err(failure) => Err(failure),
                };
                settle(context, "/", done).await?;
            }
        }
        Ok(())
    })
    .await
}

async fn print(context: &Context, path: &str, first: &mut bool) -> Outcome {
    let acl = context.client.acl(path).await?;
    if context.output.is_json() {
        return context.output.object(&object(&acl, path));
    }
    let between = if std::mem::take(first) { "" } else { "\n" };
    context.output.block(&format!("{between}{}", text(&acl, path)))
}

fn text(acl: &GetAclResponse, path: &str) -> String {
    let mut out = format!("# file: {}\n# owner: {}\n# group: {}\n", plain(path), acl.owner, acl.group);
    if acl.mode & 0o7000 != 0 {
        let flag = |bit, letter| if acl.mode & bit != 0 { letter } else { '-' };
        out.push_str(&format!("# flags: {}{}{}\n", flag(0o4000, 's'), flag(0o2000, 's'), flag(0o1000, 't')));
    }
    for entry in &acl.entries {
        out.push_str(&entry_text(entry));
        let rights = effective(acl, entry);
        if rights != entry.rights {
            out.push_str(&format!("\t#effective:{}", rights_text(rights)));
        }
        out.push('\n');
    }
    out
}

fn object(acl: &GetAclResponse, path: &str) -> Value {
    let entries: Vec<Value> = acl
        .entries
        .iter()
        .map(|entry| {
            let scope = if entry.scope() == AclScope::Default { "default" } else { "access" };
            json!({
                "scope": scope, "tag": tag_name(entry.tag()), "name": entry.name, "rights": rights_text(entry.rights),
                "effective": rights_text(effective(acl, entry)),
            })
        })
        .collect();
    json!({
        "v": 1, "type": "acl", "path": path, "owner": acl.owner, "group": acl.group,
        "mode": format!("{:04o}", acl.mode), "entries": entries, "extended": acl.extended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mask_takes_away_is_told() {
        let entries = parse("user::rwx,user:bob:rwx,group::r-x,mask::r-x,other::---").unwrap();
        let acl = GetAclResponse { owner: "ana".into(), group: "etl".into(), mode: 0o1750, entries, extended: true };
        assert_eq!(
            text(&acl, "/d"),
            "# file: /d\n# owner: ana\n# group: etl\n# flags: --t\nuser::rwx\nuser:bob:rwx\t#effective:r-x\n\
             group::r-x\nmask::r-x\nother::---\n"
        );
        assert_eq!(object(&acl, "/d")["entries"][1]["effective"], "r-x");
    }
}
