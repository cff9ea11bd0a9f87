//! `omnigate schema`.

use std::process::ExitCode;

use crate::cli::print_whole;
use crate::config;

/// Prints the JSON schema (draft-07) of the config, for editors: completion, descriptions, and red
/// lines below what is wrong.
///
/// Save it beside the config, and let the config begin with `#:schema ./omnigate.schema.json`: Even
/// Better TOML and taplo read that.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {}

pub(crate) fn run(_args: SchemaArgs) -> ExitCode {
    print_whole(format!("{:#}\n", config::schema_for_editors()).as_bytes())
}
