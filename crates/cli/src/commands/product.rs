//! `guildhall product`.

use super::{clock, with_help};
use crate::sql::password_of;
use anyhow::{Result, bail};
use clap::Subcommand;
use guildhall_node::{Checked, Gravity, Node, NodeConfig, Officer};
use std::path::PathBuf;

/// What can be done with product files before they are published.
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// Say what to mend in product files, and what they would release and withhold of the data of this node
    ///
    /// Without an account the files alone are looked at. With one, the council's authority lends keys for this once,
    /// if the account holds the purpose `product_check`; what is printed are counts and shares, table by table.
    Check {
        /// node.toml
        #[arg(long, short)]
        config: PathBuf,
        /// The account whose leave the data is read with
        #[arg(long)]
        account: Option<String>,
        /// File that holds its password; asked for if neither this nor GUILDHALL_PASSWORD is set
        #[arg(long, requires = "account")]
        password_file: Option<PathBuf>,
        /// Fail on warnings, not on errors alone
        #[arg(long)]
        deny_warnings: bool,
        /// The product files
        #[arg(required = true)]
        products: Vec<PathBuf>,
    },
}

/// Carries out one command.
pub async fn run(command: ProductCommand) -> Result<()> {
    let ProductCommand::Check {
        config,
        account,
        password_file,
        deny_warnings,
        products,
    } = command;
    let officer = match account {
        Some(account) => {
            let password = password_of(&account, password_file.as_deref())?.into();
            Some(Officer { account, password })
        }
        None => None,
    };
    let node = Node::open(NodeConfig::load(&config)?, clock())?;
    let mut fails = 0_usize;
    for file in products {
        let checked = node.check(&file, officer.as_ref()).await.map_err(|e| {
            let help = e.help();
            with_help(e.into(), help)
        })?;
        print!("{checked}");
        fails += usize::from(is_faulty(&checked, deny_warnings));
    }
    match fails {
        0 => Ok(()),
        1 => bail!("1 product is to be mended"),
        many => bail!("{many} products are to be mended"),
    }
}

fn is_faulty(checked: &Checked, deny_warnings: bool) -> bool {
    checked.has(Gravity::Error) || deny_warnings && checked.has(Gravity::Warning)
}
