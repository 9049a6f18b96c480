//! The certificate: key types, names, chain and the checks of the answer.
