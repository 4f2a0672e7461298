//! `harbinger keys`: make, list and revoke API keys in the ledger, whether the service runs or not.

use harbinger_core::{Clock, SystemClock, TenantId};
use harbinger_store::{
    Ledger,
    ledger::{
        keys::{self, NewKey, Scope},
        registry,
    },
};

use super::run;
use crate::service::DataFolder;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it, once
    Create {
        /// Whose key it is; the tenant is made where it is new
        #[arg(long)]
        tenant: TenantId,
        /// What it may do: ingest, read, operate, admin
        #[arg(long, value_delimiter = ',', default_value = "ingest,operate")]
        scope: Vec<Scope>,
        /// What it is for
        #[arg(long, default_value = "command line")]
        name: String,
        #[command(flatten)]
        place: run::Arguments,
    },
    /// List the keys of a tenant
    List {
        /// Whose
        #[arg(long)]
        tenant: TenantId,
        #[command(flatten)]
        place: run::Arguments,
    },
    /// Make a key invalid from now on
    Revoke {
        /// Whose
        #[arg(long)]
        tenant: TenantId,
        /// The key's id, as `list` shows it
        key_id: String,
        #[command(flatten)]
        place: run::Arguments,
    },
}

async fn ledger_of(place: &run::Arguments) -> anyhow::Result<Ledger> {
    Ok(Ledger::connect(&DataFolder::open(&place.settings()?)?.ledger).await?)
}

/// Does what was asked and says what came of it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let now = SystemClock.now();
    match arguments.action {
        Action::Create { tenant, scope, name, place } => {
            let ledger = ledger_of(&place).await?;
            let mut tx = ledger.write().await?;
            registry::ensure_tenant(&mut tx, &tenant, now).await?;
            let new = NewKey { name: &name, scopes: &scope, expires_wall: None };
            let (plain, _) = keys::create(&mut tx, &tenant, &new, now).await?;
            tx.commit().await?;
            println!("{}", plain.reveal());
        }
        Action::List { tenant, place } => {
            let ledger = ledger_of(&place).await?;
            let mut read = ledger.read().await?;
            for key in keys::list(&mut read, &tenant).await? {
                let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
                let state = if key.is_valid(now) { "valid" } else { "invalid" };
                println!("{} {} {} {}", key.key_id, state, scopes.join(","), key.name);
            }
        }
        Action::Revoke { tenant, key_id, place } => {
            let ledger = ledger_of(&place).await?;
            let mut tx = ledger.write().await?;
            keys::revoke(&mut tx, &tenant, &key_id, now).await?;
            tx.commit().await?;
            println!("revoked {key_id}");
        }
    }
    Ok(())
}
