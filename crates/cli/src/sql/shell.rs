//! The interactive shell.

use super::{Format, Settings, answer};
use crate::sql::Connection;
use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::path::PathBuf;

const HELP: &str = "\
Statements end with `;`. Ctrl-C stops a running one, at the nodes too.
  \\d               products you may see
  \\d PRODUCT       its columns
  \\purpose [NAME]  show or set why you ask
  \\format FORMAT   table, csv or json
  \\q               leave";

pub(super) async fn run(connection: &mut Connection, mut settings: Settings) -> Result<()> {
    let mut editor = DefaultEditor::new().context("cannot use this terminal")?;
    let history = history_file();
    if let Some(file) = &history {
        // There is none at the first start.
        let _none_yet = editor.load_history(file);
    }
    println!("guildhall {}; \\? for help", env!("CARGO_PKG_VERSION"));
    let mut pending = String::new();
    loop {
        let prompt = if pending.is_empty() {
            "guildhall> "
        } else {
            "      ...> "
        };
        // Typing is done on a thread that may wait.
        let (line, back) = tokio::task::spawn_blocking(move || {
            let line = editor.readline(prompt);
            (line, editor)
        })
        .await
        .context("the terminal failed")?;
        editor = back;
        match line {
            Ok(line) if pending.is_empty() && line.trim_start().starts_with('\\') => {
                let _unkept = editor.add_history_entry(line.trim());
                if !command(line.trim(), connection, &mut settings).await {
                    break;
                }
            }
            Ok(line) => {
                pending.push_str(&line);
                pending.push('\n');
                if !line.trim_end().ends_with(';') && !pending.trim().is_empty() {
                    continue;
                }
                let text = std::mem::take(&mut pending);
                let _unkept = editor.add_history_entry(text.trim());
                for statement in statements(&text) {
                    show(connection, &statement, settings).await;
                }
            }
            Err(ReadlineError::Interrupted) => pending.clear(),
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(e).context("cannot read from this terminal"),
        }
    }
    if let Some(file) = &history {
        editor
            .save_history(file)
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}

async fn show(connection: &mut Connection, statement: &str, settings: Settings) {
    if let Err(error) = answer(connection, statement, settings).await {
        eprintln!("error: {error:#}");
    }
}

/// Carries out a backslash command; false to leave.
async fn command(line: &str, connection: &mut Connection, settings: &mut Settings) -> bool {
    let mut words = line.split_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("\\q" | "\\quit", _) => return false,
        ("\\?" | "\\h" | "\\help", _) => println!("{HELP}"),
        ("\\d", None) => {
            let all = "SELECT table_catalog AS council, table_schema AS department, table_name AS product \
                       FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2, 3";
            show(connection, all, *settings).await;
        }
        ("\\d", Some(product)) => match columns_of(product) {
            Some(statement) => show(connection, &statement, *settings).await,
            None => eprintln!("error: `{product}` is not of the form council.department.product"),
        },
        ("\\purpose", None) => println!("{}", connection.purpose.as_deref().unwrap_or("(none)")),
        ("\\purpose", Some(purpose)) => connection.purpose = Some(purpose.to_owned()),
        ("\\format", Some(format)) => match Format::from_str(format, true) {
            Ok(format) => settings.format = format,
            Err(_) => eprintln!("error: formats are table, csv and json"),
        },
        _ => eprintln!("error: no such command; \\? lists them"),
    }
    true
}

fn columns_of(product: &str) -> Option<String> {
    let parts: Vec<&str> = product.split('.').collect();
    let [council, department, name] = parts.as_slice() else {
        return None;
    };
    let plain =
        |s: &&str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    [council, department, name].into_iter().all(plain).then(|| {
        format!(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_catalog = '{council}' \
             AND table_schema = '{department}' AND table_name = '{name}' ORDER BY ordinal_position"
        )
    })
}

/// The statements of a text, cut at semicolons that are not inside quotes or comments.
pub(super) fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                current.push(c);
                for inner in chars.by_ref() {
                    current.push(inner);
                    if inner == c {
                        break;
                    }
                }
            }
            '-' if chars.peek() == Some(&'-') => while chars.next_if(|n| *n != '\n').is_some() {},
            ';' => found.push(std::mem::take(&mut current)),
            _ => current.push(c),
        }
    }
    found.push(current);
    found
        .into_iter()
        .map(|s| s.trim().to_owned())
        .filter(|s| !s.is_empty())
        .collect()
}

/// Asks for a password on the terminal, without showing it.
pub(super) fn ask_password(account: &str) -> Result<String> {
    use rustyline::highlight::Highlighter;
    use rustyline::{Completer, Editor, Helper, Hinter, Validator};
    use std::borrow::Cow;

    #[derive(Completer, Helper, Hinter, Validator)]
    struct Hidden;
    impl Highlighter for Hidden {
        fn highlight<'l>(&self, line: &'l str, _at: usize) -> Cow<'l, str> {
            Cow::Owned("*".repeat(line.chars().count()))
        }
        fn highlight_char(&self, _: &str, _: usize, _: rustyline::highlight::CmdKind) -> bool {
            true
        }
    }
    let mut editor: Editor<Hidden, rustyline::history::DefaultHistory> =
        Editor::new().context("cannot use this terminal")?;
    editor.set_helper(Some(Hidden));
    editor
        .readline(&format!("password of {account}: "))
        .context("no password was given")
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"))
        })?;
    let folder = state.join("guildhall");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        assert_eq!(
            statements("SELECT ';' -- no; end\n, \"a;b\"; SELECT 2;\n"),
            ["SELECT ';' \n, \"a;b\"", "SELECT 2"]
        );
    }

    #[test]
    fn only_plain_names_are_put_into_a_statement() {
        assert!(columns_of("northmoor.parking.sessions").is_some());
        assert!(columns_of("a.b.c' OR 'x").is_none());
        assert!(columns_of("sessions").is_none());
    }
}
