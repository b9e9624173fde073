//! The messages that cross trust boundaries, generated from `proto/`.
//!
//! Nothing here is checked: each crate parses these into its own types at its edge.

/// DSSE envelopes.
pub mod envelope {
    pub mod v1 {
        tonic::include_proto!("guildhall.envelope.v1");
    }
}
/// Grants and access tokens.
pub mod grant {
    pub mod v1 {
        tonic::include_proto!("guildhall.grant.v1");
    }
}
/// Products as registered.
pub mod product {
    pub mod v1 {
        tonic::include_proto!("guildhall.product.v1");
    }
}
/// Manifests of datasets at rest.
pub mod store {
    pub mod v1 {
        tonic::include_proto!("guildhall.store.v1");
    }
}
/// The authority's services.
pub mod authority {
    pub mod v1 {
        tonic::include_proto!("guildhall.authority.v1");
    }
}
/// The clean room's service.
pub mod clean_room {
    pub mod v1 {
        tonic::include_proto!("guildhall.clean_room.v1");
    }
}
/// The node's service.
pub mod node {
    pub mod v1 {
        tonic::include_proto!("guildhall.node.v1");
    }
}
/// The worker's service.
pub mod worker {
    pub mod v1 {
        tonic::include_proto!("guildhall.worker.v1");
    }
}
