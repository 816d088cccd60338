//! Where a StreamRegistry contract is deployed.

use std::fmt;
use std::str::FromStr;

use ethers_core::types::Address;

use crate::identity::{UserId, UserIdError};

/// A StreamRegistry contract: on a public network by its name, or any by its address.
///
/// ```
/// use veilcast::permission::ethereum::Deployment;
/// let polygon: Deployment = "polygon".parse()?;
/// assert_eq!(polygon.chain_id(), Some(137));
/// let own: Deployment = "0x5FbDB2315678afecb367f032d93F642f64180aa3".parse()?;
/// assert_eq!(own.on_chain(31337).chain_id(), Some(31337));
/// # Ok::<(), veilcast::permission::ethereum::DeploymentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    name: Option<&'static str>,
    coin: Option<&'static str>,
    chain_id: Option<u64>,
    contract: UserId,
    first_block: u64,
}

/// Name, what gas is paid in, chain id, address of the proxy, a block before the first event (as the network's own subgraphs have
/// it).
const PRESETS: [(&str, &str, u64, &str, u64); 4] = [
    ("polygon", "POL", 137, "0x0d483e10612f327fc11965fc82e90dc19b141641", 23_586_970),
    ("amoy", "POL", 80002, "0xe9c98bde63248e58e9137db8270d9675b9e34b93", 6_550_000),
    ("peaq", "PEAQ", 3338, "0xd0c720e99bd39311614f292d8b0b4e351bde157c", 900_000),
    ("iotex", "IOTX", 4689, "0x080f34fec2bc33928999ea9e39adc798bef3e0d6", 33_510_000),
];

impl Deployment {
    /// The contract at `address` of the chain that the first endpoint asked is on.
    pub const fn at(address: [u8; 20]) -> Self {
        Self { name: None, coin: None, chain_id: None, contract: UserId::from_bytes(address), first_block: 0 }
    }

    /// The same contract on this chain (EIP-155), and no other.
    pub const fn on_chain(self, chain_id: u64) -> Self {
        Self { chain_id: Some(chain_id), ..self }
    }

    /// The chain's id; `None` where the first endpoint asked decides.
    pub const fn chain_id(&self) -> Option<u64> {
        self.chain_id
    }

    /// The contract's address.
    pub const fn address(&self) -> &[u8; 20] {
        self.contract.as_bytes()
    }

    /// What gas is paid in, 10^18 wei of it; `None` where that is not known.
    pub const fn coin(&self) -> Option<&'static str> {
        self.coin
    }

    /// The most that one transaction may cost where nobody said otherwise, wei.
    pub(super) const fn max_cost(&self) -> u128 {
        const COIN: u128 = 1_000_000_000_000_000_000;
        match self.chain_id {
            Some(137 | 80002) if self.name.is_some() => 5 * COIN,
            Some(3338) if self.name.is_some() => 10 * COIN,
            Some(4689) if self.name.is_some() => 100 * COIN,
            _ => COIN / 5,
        }
    }

    /// A block before the first event of the contract.
    pub(super) const fn first_block(&self) -> u64 {
        self.first_block
    }

    /// The names of the public networks.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, ..)| *name)
    }

    pub(super) fn contract(&self) -> Address {
        Address::from(*self.address())
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => f.write_str(&self.contract.checksummed()),
        }
    }
}

impl FromStr for Deployment {
    type Err = DeploymentError;
    fn from_str(text: &str) -> Result<Self, DeploymentError> {
        if text.starts_with("0x") {
            return Ok(Self::at(*text.parse::<UserId>()?.as_bytes()));
        }
        let (name, coin, chain_id, address, first_block) = PRESETS
            .into_iter()
            .find(|(name, ..)| *name == text)
            .ok_or_else(|| DeploymentError::Unknown { got: text.chars().take(60).collect() })?;
        let (name, coin, chain_id) = (Some(name), Some(coin), Some(chain_id));
        Ok(Self { name, coin, chain_id, contract: address.parse()?, first_block })
    }
}

/// Why text names no contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// Neither a name we know nor an address.
    #[error("a registry on a chain is polygon, amoy, peaq, iotex or the address of a contract, not {got:?}")]
    Unknown {
        /// What it was, cut short.
        got: String,
    },
    /// Not an address.
    #[error(transparent)]
    Address(#[from] UserIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_networks_have_their_names_chain_ids_and_addresses() {
        let expected = [
            ("polygon", 137, "0x0D483E10612F327FC11965Fc82E90dC19b141641"),
            ("amoy", 80002, "0xE9C98bdE63248e58E9137Db8270D9675B9E34b93"),
            ("peaq", 3338, "0xD0C720e99Bd39311614f292d8B0B4e351Bde157c"),
            ("iotex", 4689, "0x080F34fec2bc33928999Ea9e39ADc798bEF3E0d6"),
        ];
        assert_eq!(Deployment::names().collect::<Vec<_>>(), expected.map(|(name, ..)| name));
        for (name, chain_id, address) in expected {
            let deployment: Deployment = name.parse().unwrap();
            assert_eq!((deployment.chain_id(), deployment.to_string().as_str()), (Some(chain_id), name));
            assert_eq!(deployment.contract.checksummed(), address);
        }
    }

    #[test]
    fn any_other_registry_is_named_by_its_address_and_anything_else_is_an_error() {
        let own: Deployment = "0x5FbDB2315678afecb367f032d93F642f64180aa3".parse().unwrap();
        assert_eq!((own.chain_id(), own.on_chain(7).chain_id()), (None, Some(7)));
        assert_eq!(own.to_string(), "0x5FbDB2315678afecb367f032d93F642f64180aa3");
        assert!(matches!("Polygon".parse::<Deployment>(), Err(DeploymentError::Unknown { .. })));
        assert!(matches!("0x5FbDB2315678afecb367".parse::<Deployment>(), Err(DeploymentError::Address(_))));
    }
}
