drop index leads_agency;
