//! auctioneer
