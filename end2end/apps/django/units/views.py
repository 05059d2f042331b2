"""Turns lengths of one unit into all others."""

import logging

from django.http import HttpResponse
from django.shortcuts import render

METRES = {"inch": 0.0254, "foot": 0.3048, "metre": 1.0, "kilometre": 1000.0, "mile": 1609.344}
log = logging.getLogger(__name__)


def home(request):
    unit = request.GET.get("unit", "mile")
    try:
        length = float(request.GET.get("length", "1"))
        metres = length * METRES[unit]
    except (ValueError, KeyError):
        return HttpResponse("length is a number, unit one of: %s\n" % ", ".join(METRES), status=400)
    log.info("%g %s was asked for", length, unit)
    rows = [(name, f"{metres / size:g}") for name, size in METRES.items()]
    return render(request, "units/home.html", {"rows": rows, "units": METRES, "unit": unit, "length": f"{length:g}"})


def health(request):
    return HttpResponse("ok\n")
