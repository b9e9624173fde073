//! A node at work: what importing, publishing and serving have in common.

use crate::audit::{Log, LogError};
use crate::authority::{Authority, AuthorityError, CouncilAuthority};
use crate::check::{CheckError, Checked, Checker, Officer};
use crate::config::NodeConfig;
use crate::datasets::Datasets;
use crate::engine::Engine;
use crate::enrol::make_private_folder;
use crate::import::{Importer, NodeImportError};
use crate::publish::{PublishError, Published, Publisher};
use crate::serve::noise_secret;
use guildhall_client::{AuthorityClient, ClientError};
use guildhall_grant::{KeyError, SigningKey};
use guildhall_identity::{Dialer, Identity, IdentityError, TrustStore, load_signing_key};
use guildhall_model::{PeerId, SharedClock};
use guildhall_store::{ImportReport, ImportSpec, Mode, Progress, Storage, StorageError};
use std::path::Path;
use std::sync::Arc;

/// Why a node cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It has not enrolled, or its keys cannot be read.
    #[error("this node has no identity; `guildhall node enrol` gets one")]
    Identity {
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The identity is that of somebody else.
    #[error("the identity in the folder is {found}, but node.toml is that of {config}")]
    OtherPeer {
        /// Whose identity it is.
        found: Box<PeerId>,
        /// Who this is.
        config: Box<PeerId>,
    },
    /// The secret of the noise cannot be kept.
    #[error("the secret that released cells are perturbed by cannot be kept")]
    NoiseSecret {
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// No randomness.
    #[error("the operating system gives no randomness")]
    Random,
    /// The signing key is none.
    #[error("the signing key cannot be used")]
    SigningKey {
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The authority cannot be called.
    #[error("the authority cannot be called")]
    Client {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The data folder cannot be used.
    #[error("the data folder cannot be used")]
    Storage {
        /// Why.
        #[source]
        source: StorageError,
    },
    /// A folder cannot be made.
    #[error("cannot make the folder of products")]
    Folder {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The log cannot be used.
    #[error("the node's log cannot be used")]
    Log {
        /// Why.
        #[source]
        source: LogError,
    },
    /// The authority said no.
    #[error("the authority did not take it")]
    Authority {
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// The policy cannot be read.
    #[error("cannot read the policy `{file}`")]
    PolicyFile {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The policy is none.
    #[error("the department's policy is not valid")]
    Policy {
        /// Why.
        #[source]
        source: guildhall_policy::PolicyError,
    },
    /// The engine cannot be set up.
    #[error("the engine cannot be set up")]
    Engine {
        /// Why.
        #[source]
        source: datafusion::error::DataFusionError,
    },
    /// The workers cannot be called.
    #[error("the workers of node.toml cannot be called")]
    Workers {
        /// Why.
        #[source]
        source: guildhall_workers::FleetError,
    },
    /// Nothing can be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A node with its identity, storage, log and authority at hand.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) clock: SharedClock,
    pub(crate) dialer: Dialer,
    pub(crate) client: AuthorityClient,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) signer: Arc<SigningKey>,
    pub(crate) storage: Storage,
    pub(crate) log: Log,
}

impl Node {
    /// Opens an enrolled node.
    pub fn open(config: NodeConfig, clock: SharedClock) -> Result<Self, NodeError> {
        let dir = config.identity_dir();
        let no_identity = |source| NodeError::Identity { source };
        let identity = Identity::load(&dir).map_err(no_identity)?;
        let trust = TrustStore::load(&dir).map_err(no_identity)?;
        if identity.peer() != config.peer() {
            let found = Box::new(identity.peer());
            return Err(NodeError::OtherPeer {
                found,
                config: Box::new(config.peer()),
            });
        }
        let signer = SigningKey::from_pkcs8(&load_signing_key(&dir).map_err(no_identity)?)
            .map_err(|source| NodeError::SigningKey { source })?;
        let dialer = Dialer::new(&identity, &trust, Arc::clone(&clock));
        let client = AuthorityClient::new(&dialer, &config.authority.address, &config.council)
            .map_err(|source| NodeError::Client { source })?;
        let authority = Arc::new(CouncilAuthority::new(
            config.council.clone(),
            client.clone(),
        ));
        let storage =
            Storage::local(&config.data).map_err(|source| NodeError::Storage { source })?;
        make_private_folder(&config.products_dir())
            .map_err(|source| NodeError::Folder { source })?;
        let log = Log::open(&config.audit_file()).map_err(|source| NodeError::Log { source })?;
        Ok(Self {
            config,
            clock,
            dialer,
            client,
            authority,
            signer: Arc::new(signer),
            storage,
            log,
        })
    }

    /// Imports what `spec` describes as a new version of its dataset.
    pub async fn import(
        &self,
        spec: &ImportSpec,
        mode: Mode,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<ImportReport, NodeImportError> {
        let importer = Importer {
            council: &self.config.council,
            department: &self.config.department,
            storage: &self.storage,
            signer: &self.signer,
            authority: self.authority.as_ref(),
            log: &self.log,
            clock: &self.clock,
        };
        importer.run(spec, mode, progress).await
    }

    /// Checks, signs and registers the product in `file`.
    pub async fn publish(&self, file: &Path) -> Result<Published, PublishError> {
        let datasets = self.datasets();
        self.publisher(&datasets).publish(file).await
    }

    /// Checks the product in `file`, without offering it; on its data, too, if an officer gives leave.
    pub async fn check(
        &self,
        file: &Path,
        officer: Option<&Officer>,
    ) -> Result<Checked, CheckError> {
        let datasets = self.datasets();
        let secret = noise_secret(&self.config.identity_dir())?;
        let engine = Engine::new(&self.config.limits);
        let engine = engine.map_err(|source| NodeError::Engine { source })?;
        let checker = Checker {
            publisher: self.publisher(&datasets),
            authority: self.authority.as_ref(),
            secret: &secret,
            engine: &engine,
            log: &self.log,
        };
        checker.check(file, officer).await
    }

    fn publisher<'a>(&'a self, datasets: &'a Datasets) -> Publisher<'a> {
        Publisher {
            node: self.config.peer(),
            folder: self.config.products_dir(),
            signer: &self.signer,
            authority: self.authority.as_ref(),
            datasets,
            log: &self.log,
            clock: &self.clock,
        }
    }

    pub(crate) fn datasets(&self) -> Datasets {
        Datasets::new(
            self.storage.clone(),
            self.config.council.clone(),
            self.config.department.clone(),
            Arc::clone(&self.signer),
            Arc::clone(&self.authority),
        )
    }
}
