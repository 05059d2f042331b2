-- A database that is not Berth's own may be given to two installations by mistake: it says whose it is.
alter table installation add column home text;
