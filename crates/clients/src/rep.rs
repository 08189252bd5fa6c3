//! The rep and auctioneer HTTP clients.
