//! What is said of deliveries is true: what may have arrived is never sent again unmarked, nothing is lost or doubled around a death, a
//! restart repeats nothing, and an outage is drained in order.

mod counterpart;
mod crash;
mod doubt;
mod outage;
