//! Which piece goes where: gain per piece, allocation of hub stock, purchases.
