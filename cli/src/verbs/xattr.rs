//! `xattr`: extended attributes, small values under names of the user's choice.

use clap::{Args, Subcommand};
use client::{FileKind, Xattr};
use serde_json::{Value, json};

use super::Outcome;
use super::context::Context;
use super::each::{each, each_together, settle, start};
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::paths::walk::Walk;
use super::text::bytes::{Encoding, base64, parse, shown};
use super::text::plain;

/// What names may begin with.
const CLASSES: [&str; 5] = ["user.", "trusted.", "system.", "security.", "raw."];

/// `xattr VERB`.
#[derive(Debug, Args)]
pub(crate) struct XattrVerb {
    #[command(subcommand)]
    pub(crate) verb: XattrCommand,
}

/// Verbs below `xattr`.
#[derive(Debug, Subcommand)]
pub(crate) enum XattrCommand {
    /// Show names and values
    Get(XattrGetOptions),
    /// Set a value
    Set(XattrSetOptions),
    /// Remove an attribute
    Rm(XattrRmOptions),
    /// Show names only
    Ls(XattrLsOptions),
}

/// Flags of `xattr get`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct XattrGetOptions {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// This attribute only; repeat for more
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    name: Vec<String>,
    /// How values are shown [default: text if it can be read, else hex]
    #[arg(short, long, value_enum)]
    encoding: Option<Encoding>,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Flags of `xattr ls`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct XattrLsOptions {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// A value, read from one word.
#[derive(Clone, Debug)]
pub(crate) struct AttributeValue(Vec<u8>);

/// Flags of `xattr set`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
VALUE is a text, with or without quotes of its own, 0x… in hexadecimal or 0s… in base64.

{PATHS_HELP}

Examples:
  blockyard xattr set user.colour blue /data/x
  blockyard xattr set user.key 0x0a0b /data/x
  blockyard xattr get -n user.key -e base64 /data/x")
)]
pub(crate) struct XattrSetOptions {
    /// Name with its class: user.NAME, or trusted.NAME for the superuser
    #[arg(value_parser = name)]
    name: String,
    /// Value
    #[arg(value_parser = |text: &str| parse(text).map(AttributeValue), allow_hyphen_values = true)]
    value: AttributeValue,
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Only if it is not there yet
    #[arg(long, conflicts_with = "replace")]
    create: bool,
    /// Only if it is there
    #[arg(long)]
    replace: bool,
}

/// Flags of `xattr rm`.
#[derive(Debug, Args)]
#[command(after_help = PATHS_HELP)]
pub(crate) struct XattrRmOptions {
    /// Name with its class
    #[arg(value_parser = name)]
    name: String,
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

fn name(text: &str) -> Result<String, String> {
    let classed = CLASSES.iter().any(|class| text.len() > class.len() && text.to_ascii_lowercase().starts_with(class));
    if classed { Ok(text.to_owned()) } else { Err(format!("a name has a class: write user.{text}")) }
}

/// Runs `xattr VERB`.
pub(crate) async fn run(verb: &XattrCommand, context: &Context) -> Outcome {
    match verb {
        XattrCommand::Get(options) => get(options, context).await,
        XattrCommand::Ls(options) => {
            each(context, &options.paths, async |path| {
                let xattrs = context.client.xattrs(path, &[]).await?;
                if context.output.is_json() {
                    let names: Vec<&str> = xattrs.iter().map(|xattr| xattr.name.as_str()).collect();
                    return context.output.object(&json!({"v": 1, "type": "xattrs", "path": path, "names": names}));
                }
                xattrs.iter().try_for_each(|xattr| context.output.line(&plain(&xattr.name)))
            })
            .await
        }
        XattrCommand::Set(options) => {
            let (may_be_new, may_exist) = (!options.replace, !options.create);
            each_together(context, &options.paths, false, async |path| {
                let value = options.value.0.clone().into();
                context.client.set_xattr(path, &options.name, value, may_be_new, may_exist).await?;
                if !context.output.is_json() {
                    return Ok(());
                }
                let set = Xattr { name: options.name.clone(), value: options.value.0.clone().into() };
                context.output.object(&object(&set, path))
            })
            .await
        }
        XattrCommand::Rm(options) => {
            each_together(context, &options.paths, false, async |path| {
                context.client.remove_xattr(path, &options.name).await?;
                if !context.output.is_json() {
                    return Ok(());
                }
                let object = json!({"v": 1, "type": "xattr-removed", "path": path, "name": options.name});
                context.output.object(&object)
            })
            .await
        }
    }
}

async fn get(options: &XattrGetOptions, context: &Context) -> Outcome {
    let mut first = true;
    each(context, &options.paths, async |path| {
        print(options, context, path, false, &mut first).await?;
        if options.recursive {
            let mut walk = Walk::below(&context.client, &start(context, path).await?);
            while let Some(found) = walk.next().await {
                let done: Result<(), Failure> = match found {
                    Ok(found) if found.status.kind() == FileKind::Symlink => continue,
                    Ok(found) => {
                        let printed = print(options, context, &found.path, true, &mut first).await;
                        printed.map_err(|failure| failure.at(&found.path))
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

/// Prints what a name has; in a walk, nothing for one that has nothing.
async fn print(options: &XattrGetOptions, context: &Context, path: &str, quiet: bool, first: &mut bool) -> Outcome {
    // All are asked for and chosen here, in a walk: a named one that is missing there is no failure.
    let asked: &[String] = if options.recursive { &[] } else { &options.name };
    let mut xattrs = context.client.xattrs(path, asked).await?;
    xattrs.retain(|xattr| options.name.is_empty() || options.name.contains(&xattr.name));
    if context.output.is_json() {
        return xattrs.iter().try_for_each(|xattr| context.output.object(&object(xattr, path)));
    }
    if xattrs.is_empty() && quiet {
        return Ok(());
    }
    let mut out = format!("{}# file: {}\n", if std::mem::take(first) { "" } else { "\n" }, plain(path));
    for xattr in &xattrs {
        out.push_str(&format!("{}={}\n", plain(&xattr.name), shown(&xattr.value, options.encoding)));
    }
    context.output.block(&out)
}

fn object(xattr: &Xattr, path: &str) -> Value {
    let text = std::str::from_utf8(&xattr.value).ok();
    json!({
        "v": 1, "type": "xattr", "path": path, "name": xattr.name, "value": text, "base64": base64(&xattr.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_class() {
        assert_eq!(name("user.colour").as_deref(), Ok("user.colour"));
        assert_eq!(name("colour").unwrap_err(), "a name has a class: write user.colour");
        assert!(name("user.").is_err() && name("").is_err());
        let object = object(&Xattr { name: "user.k".into(), value: vec![255].into() }, "/x");
        assert_eq!((&object["value"], &object["base64"]), (&Value::Null, &"/w==".into()));
    }
}
