"""Collects Django's static files where the settings name a place for them."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", sys.argv[1])

import django
from django.conf import settings
from django.core.management import call_command

django.setup()
if "django.contrib.staticfiles" not in settings.INSTALLED_APPS or not settings.STATIC_ROOT:
    print("No STATIC_ROOT in the settings: nothing to collect")
else:
    call_command("collectstatic", interactive=False)
