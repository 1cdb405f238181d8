"""What is let in: answers of `smtp.ports.AccessPolicy`, and limits for each client.

users    the user map: which addresses are local, and whose they are
access   who may send to whom, on either server
limits   how much one client may ask for, over all workers

A further check (SPF, DNSBL, …) is a further file here.
"""
