//! Where a worker is and who it must be, in one URL: `worker://<name>@<host>:<port>`.

use guildhall_model::{PeerId, Role, RoleName};
use url::Url;

const SCHEME: &str = "worker";

/// The URL of the worker `name` at `address` (`host:port`), if the address is one.
pub(crate) fn url(name: &RoleName, address: &str) -> Option<Url> {
    let url = Url::parse(&format!("{SCHEME}://{name}@{address}")).ok()?;
    (self::address(&url)? == address).then_some(url)
}

/// The worker that `url` names, in the department and council of `own`.
pub(crate) fn peer(url: &Url, own: &PeerId) -> Option<PeerId> {
    (url.scheme() == SCHEME).then_some(())?;
    Some(PeerId {
        council: own.council.clone(),
        department: own.department.clone(),
        role: Role::Worker,
        name: url.username().parse().ok()?,
    })
}

/// Its `host:port`.
pub(crate) fn address(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> PeerId {
        "spiffe://northmoor/parking/node/n1".parse().unwrap()
    }

    #[test]
    fn a_url_names_a_worker_of_ones_own_department_alone() {
        let url = url(&"w1".parse().unwrap(), "w1.parking.example:443").unwrap();
        let peer = peer(&url, &own()).unwrap();
        assert_eq!(peer.to_string(), "spiffe://northmoor/parking/worker/w1");
        assert_eq!(address(&url).unwrap(), "w1.parking.example:443");
    }

    #[test]
    fn what_is_no_address_is_no_url() {
        for bad in ["w1.example", "", ":7", "a:b", "w1.example:7/x", "x@y:7"] {
            assert!(url(&"w1".parse().unwrap(), bad).is_none(), "{bad}");
        }
        let web = Url::parse("https://w1@w1.example:7").unwrap();
        assert!(peer(&web, &own()).is_none());
    }
}
